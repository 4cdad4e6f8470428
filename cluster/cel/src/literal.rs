//! What quoted text means.

/// The bytes of a string literal with its quotes, without a leading `b`.
pub(crate) fn unquote(quoted: &str, bytes: bool) -> Result<Vec<u8>, &'static str> {
    let normal = quoted.replace("\r\n", "\n").replace('\r', "\n");
    let raw = normal.starts_with(['r', 'R']);
    let text = if raw { &normal[1..] } else { &normal };
    let width = match ["\"\"\"", "'''"].iter().any(|q| text.len() >= 6 && text.starts_with(q)) {
        true => 3,
        false => 1,
    };
    let inner = text.get(width..text.len().saturating_sub(width)).unwrap_or_default();
    if raw || !inner.contains('\\') {
        return Ok(inner.as_bytes().to_vec());
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = rest.find('\\') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        let length = unescape(&rest[at + 1..], bytes, &mut out)?;
        rest = &rest[at + 1 + length..];
    }
    out.extend_from_slice(rest.as_bytes());
    Ok(out)
}

const BAD: &str = "unable to unescape string";

/// Appends what an escape means; says how long it is after its backslash.
fn unescape(after: &str, bytes: bool, out: &mut Vec<u8>) -> Result<usize, &'static str> {
    let first = *after.as_bytes().first().ok_or(BAD)?;
    let simple = match first {
        b'a' => 7,
        b'b' => 8,
        b'f' => 12,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 11,
        b'\\' | b'\'' | b'"' | b'`' | b'?' => first,
        b'x' | b'X' => return code_point(after, (1, 2, 16), bytes, out),
        b'u' if !bytes => return code_point(after, (1, 4, 16), bytes, out),
        b'U' if !bytes => return code_point(after, (1, 8, 16), bytes, out),
        b'0'..=b'3' => return code_point(after, (0, 3, 8), bytes, out),
        _ => return Err(BAD),
    };
    out.push(simple);
    Ok(1)
}

fn code_point(
    after: &str,
    (start, digits, radix): (usize, usize, u32),
    bytes: bool,
    out: &mut Vec<u8>,
) -> Result<usize, &'static str> {
    let text = after.get(start..start + digits).ok_or(BAD)?;
    let code = u32::from_str_radix(text, radix).map_err(|_| BAD)?;
    if bytes {
        out.push(u8::try_from(code).map_err(|_| BAD)?);
    } else {
        let c = char::from_u32(code).ok_or("invalid unicode code point")?;
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
    Ok(start + digits)
}
