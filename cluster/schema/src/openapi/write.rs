//! Documents as JSON, and in gnostic's protobuf form.

use super::{Document, Form, gnostic, render::Shared};
use serde_json::{Value, json};
use std::io::{self, Write};

impl Document<'_> {
    /// Writes the document as JSON. Errors: those of `out`.
    pub fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        let info = json!({"title": self.title, "version": self.version});
        let mut shared = Shared::new();
        match self.form {
            Form::V2 => write!(out, r#"{{"swagger":"2.0","info":{info},"paths":{{"#)?,
            Form::V3 => write!(out, r#"{{"openapi":"3.0.0","info":{info},"paths":{{"#)?,
        }
        let mut separator = "";
        self.paths(&mut shared, &mut |name, value| {
            member(out, &mut separator, name, &value)
        })?;
        let (opening, closing) = match self.form {
            Form::V2 => (r#"},"definitions":{"#, "}"),
            Form::V3 if self.has_definitions() => (r#"},"components":{"schemas":{"#, "},"),
            Form::V3 => (r#"},"components":{"#, ""),
        };
        out.write_all(opening.as_bytes())?;
        let mut separator = "";
        self.definitions(&mut |name, value| member(out, &mut separator, name, &value))?;
        let security = self.security();
        let closing = if self.secured {
            closing
        } else {
            closing.trim_end_matches(',')
        };
        match self.form {
            Form::V2 => write!(
                out,
                r#"{closing},"parameters":{},"securityDefinitions":{security},"security":[{{"BearerToken":[]}}]}}"#,
                self.parameters(shared)
            ),
            Form::V3 if self.secured => write!(out, r#"{closing}"securitySchemes":{security}}}}}"#),
            Form::V3 => write!(out, "{closing}}}}}"),
        }
    }

    /// Writes the document as gnostic's `Document` message of its version. Errors: those of `out`.
    pub fn write_gnostic(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut shared = Shared::new();
        let mut head = json!({"info": {"title": self.title, "version": self.version}});
        let (paths, definitions) = match self.form {
            Form::V2 => (&gnostic::v2::PATHS, &gnostic::v2::DEFINITIONS),
            Form::V3 => (&gnostic::v3::PATHS, &gnostic::v3::SCHEMAS),
        };
        let mut encoded = Vec::new();
        self.paths(&mut shared, &mut |name, value| {
            gnostic::encode_member(paths, name, &value, &mut encoded);
            Ok(())
        })?;
        let mut schemas = Vec::new();
        self.definitions(&mut |name, value| {
            gnostic::encode_member(definitions, name, &value, &mut schemas);
            Ok(())
        })?;
        // Fields may come in any order.
        match self.form {
            Form::V2 => {
                gnostic::write_message(out, 8, &encoded)?;
                gnostic::write_message(out, 9, &schemas)?;
                head["swagger"] = json!("2.0");
                head["parameters"] = self.parameters(shared);
                head["securityDefinitions"] = self.security();
                head["security"] = json!([{"BearerToken": []}]);
                out.write_all(&gnostic::encode(&gnostic::v2::DOCUMENT, &head))
            }
            Form::V3 => {
                gnostic::write_message(out, 4, &encoded)?;
                drop(encoded);
                let mut components = Vec::new();
                if self.has_definitions() {
                    gnostic::write_message(&mut components, 1, &schemas)?;
                }
                drop(schemas);
                if self.secured {
                    let rest = json!({"securitySchemes": self.security()});
                    components.extend(gnostic::encode(&gnostic::v3::COMPONENTS, &rest));
                }
                gnostic::write_message(out, 5, &components)?;
                head["openapi"] = json!("3.0.0");
                out.write_all(&gnostic::encode(&gnostic::v3::DOCUMENT, &head))
            }
        }
    }

    fn parameters(&self, mut shared: Shared) -> Value {
        for foreign in &self.foreign {
            for (name, parameter) in foreign["parameters"].as_object().into_iter().flatten() {
                shared.entry(name.clone()).or_insert_with(|| parameter.clone());
            }
        }
        Value::Object(shared.into_iter().collect())
    }
}

fn member(out: &mut dyn Write, separator: &mut &'static str, name: &str, value: &Value) -> io::Result<()> {
    write!(out, "{}{}:{value}", std::mem::replace(separator, ","), json!(name))
}
