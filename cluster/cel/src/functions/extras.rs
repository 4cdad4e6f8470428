//! cel-go's base64, for environments that have it; Kubernetes' has not.

use super::{Row, row};
use crate::{EvalError, Value, env::Library::Encoders};
use base64::{
    Engine as _,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD},
};

/// With or without padding.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

pub(super) fn rows() -> Vec<Row> {
    vec![
        row(
            Encoders,
            "base64.encode",
            "base64_encode_bytes",
            "(bytes) -> string",
            encode,
        ),
        row(
            Encoders,
            "base64.decode",
            "base64_decode_string",
            "(string) -> bytes",
            decode,
        ),
    ]
}

fn encode<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    match args {
        [Value::Bytes(bytes)] => Ok(Value::text(STANDARD.encode(bytes))),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn decode<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let [Value::String(text)] = args else {
        return Err(EvalError::no_such_overload());
    };
    match LENIENT.decode(text.as_bytes()) {
        Ok(bytes) => Ok(Value::Bytes(bytes.into())),
        Err(_) => Err(EvalError::failed("illegal base64 data")),
    }
}
