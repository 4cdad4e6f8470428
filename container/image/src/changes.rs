//! Dockerfile instructions that change an image's configuration, for `--change`.

use serde_json::{Map, Value, json};

/// Applies instructions, each a line such as `ENV A=b`, to a configuration's `config`.
pub(crate) fn apply(config: &mut Value, instructions: &[String]) -> Result<(), String> {
    for instruction in instructions {
        let text = instruction.trim();
        let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        one(config, &word.to_uppercase(), rest.trim()).map_err(|why| format!("{text}: {why}"))?;
    }
    Ok(())
}

fn one(config: &mut Value, word: &str, rest: &str) -> Result<(), String> {
    if rest.is_empty() && !matches!(word, "CMD" | "ENTRYPOINT") {
        return Err(format!("{word} requires at least one argument"));
    }
    match word {
        "CMD" => put(config, "Cmd", command(rest)),
        "ENTRYPOINT" => {
            put(config, "Entrypoint", command(rest))?;
            // The old words were the old program's.
            put(config, "Cmd", Value::Null)
        }
        "USER" => put(config, "User", rest.into()),
        "STOPSIGNAL" => put(config, "StopSignal", rest.into()),
        "WORKDIR" => {
            let old = config.get("WorkingDir").and_then(Value::as_str).unwrap_or("/");
            let new = match rest.starts_with('/') {
                true => rest.to_owned(),
                false => format!("{}/{rest}", old.trim_end_matches('/')),
            };
            put(config, "WorkingDir", new.into())
        }
        "ENV" => pairs(rest)?.into_iter().try_for_each(|(key, value)| {
            let list = array(config, "Env")?;
            let start = format!("{key}=");
            list.retain(|item| !item.as_str().is_some_and(|item| item.starts_with(&start)));
            list.push(format!("{key}={value}").into());
            Ok(())
        }),
        "LABEL" => pairs(rest)?.into_iter().try_for_each(|(key, value)| {
            object(config, "Labels")?.insert(key, value.into());
            Ok(())
        }),
        "EXPOSE" => words(rest)?.into_iter().try_for_each(|port| {
            let port = match port.contains('/') {
                true => port,
                false => format!("{port}/tcp"),
            };
            object(config, "ExposedPorts")?.insert(port, json!({}));
            Ok(())
        }),
        "VOLUME" => {
            let paths = match serde_json::from_str::<Vec<String>>(rest) {
                Ok(paths) => paths,
                Err(_) => words(rest)?,
            };
            paths.into_iter().try_for_each(|path| {
                object(config, "Volumes")?.insert(path, json!({}));
                Ok(())
            })
        }
        "ONBUILD" => {
            array(config, "OnBuild")?.push(rest.into());
            Ok(())
        }
        "HEALTHCHECK" => put(config, "Healthcheck", health(rest)?),
        other => Err(format!("{other} is not a valid change command")),
    }
}

fn put(config: &mut Value, key: &str, value: Value) -> Result<(), String> {
    let map = config.as_object_mut().ok_or("the configuration is no object")?;
    map.insert(key.to_owned(), value);
    Ok(())
}

fn array<'a>(config: &'a mut Value, key: &str) -> Result<&'a mut Vec<Value>, String> {
    let map = config.as_object_mut().ok_or("the configuration is no object")?;
    let item = map.entry(key).or_insert_with(|| json!([]));
    if item.is_null() {
        *item = json!([]);
    }
    item.as_array_mut().ok_or_else(|| format!("{key} is no list"))
}

fn object<'a>(config: &'a mut Value, key: &str) -> Result<&'a mut Map<String, Value>, String> {
    let map = config.as_object_mut().ok_or("the configuration is no object")?;
    let item = map.entry(key).or_insert_with(|| json!({}));
    if item.is_null() {
        *item = json!({});
    }
    item.as_object_mut().ok_or_else(|| format!("{key} is no map"))
}

/// A JSON list of words, or a line for the shell.
fn command(rest: &str) -> Value {
    match serde_json::from_str::<Vec<String>>(rest) {
        Ok(words) => words.into(),
        Err(_) if rest.is_empty() => json!([]),
        Err(_) => json!(["/bin/sh", "-c", rest]),
    }
}

/// `NONE`, or `[--interval=… …] CMD …`, with durations in nanoseconds.
fn health(rest: &str) -> Result<Value, String> {
    if rest.eq_ignore_ascii_case("none") {
        return Ok(json!({"Test": ["NONE"]}));
    }
    let mut check = Map::new();
    let mut rest = rest;
    while let Some(option) = rest.strip_prefix("--") {
        let (option, tail) = option.split_once(char::is_whitespace).ok_or("missing CMD")?;
        let (name, value) = option.split_once('=').ok_or("an option needs a value")?;
        let (key, value) = match name {
            "interval" => ("Interval", nanoseconds(value)?.into()),
            "timeout" => ("Timeout", nanoseconds(value)?.into()),
            "start-period" => ("StartPeriod", nanoseconds(value)?.into()),
            "start-interval" => ("StartInterval", nanoseconds(value)?.into()),
            "retries" => ("Retries", json!(value.parse::<u32>().map_err(|e| e.to_string())?)),
            other => return Err(format!("unknown flag: {other}")),
        };
        check.insert(key.to_owned(), value);
        rest = tail.trim_start();
    }
    let command = rest.strip_prefix("CMD").ok_or("unknown type")?.trim();
    let test: Vec<String> = match serde_json::from_str::<Vec<String>>(command) {
        Ok(words) => std::iter::once("CMD".to_owned()).chain(words).collect(),
        Err(_) => vec!["CMD-SHELL".into(), command.into()],
    };
    check.insert("Test".into(), test.into());
    Ok(Value::Object(check))
}

/// A Go duration such as `1m30s`.
fn nanoseconds(text: &str) -> Result<i64, String> {
    let invalid = || format!("invalid duration {text:?}");
    let mut total = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !(c.is_ascii_digit() || c == '.'))
            .ok_or_else(invalid)?;
        let (number, tail) = rest.split_at(digits);
        let unit = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let factor = match &tail[..unit] {
            "ns" => 1.0,
            "us" | "µs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return Err(invalid()),
        };
        total += number.parse::<f64>().map_err(|_| invalid())? * factor;
        rest = &tail[unit..];
    }
    Ok(total as i64)
}

/// `key=value …`, quoted or not, or `key value` as of old.
fn pairs(rest: &str) -> Result<Vec<(String, String)>, String> {
    let words = words(rest)?;
    if words.first().is_some_and(|first| !first.contains('=')) {
        let (key, value) = rest.split_once(char::is_whitespace).ok_or("must have two arguments")?;
        return Ok(vec![(key.to_owned(), value.trim().to_owned())]);
    }
    words
        .into_iter()
        .map(|word| {
            let (key, value) = word
                .split_once('=')
                .ok_or_else(|| format!("{word} must be name=value"))?;
            Ok((key.to_owned(), value.to_owned()))
        })
        .collect()
}

/// Words as a shell splits them: quotes and backslashes.
fn words(text: &str) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (Some(open), close) if open == close => quote = None,
            (None, '"' | '\'') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => word.get_or_insert_default().extend(characters.next()),
            (None, space) if space.is_whitespace() => found.extend(word.take()),
            (_, other) => word.get_or_insert_default().push(other),
        }
    }
    if quote.is_some() {
        return Err("unterminated quote".into());
    }
    found.extend(word);
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_change_what_they_name() {
        let mut config = json!({"Env": ["A=1", "B=2"], "Cmd": ["old"], "WorkingDir": "/srv", "Labels": null});
        let lines = [
            "ENV A=3 C=\"x y\"",
            "env OLD style value",
            "LABEL one=1 \"two words\"=2",
            "EXPOSE 80 53/udp",
            "VOLUME [\"/data\"]",
            "WORKDIR app",
            "USER 1000:1000",
            "ENTRYPOINT [\"/bin/app\"]",
            "CMD --flag",
            "STOPSIGNAL SIGINT",
            "HEALTHCHECK --interval=1m30s --retries=2 CMD curl localhost",
            "ONBUILD RUN x",
        ];
        apply(&mut config, &lines.map(str::to_owned)).expect("changes");
        assert_eq!(
            config,
            json!({"Env": ["B=2", "A=3", "C=x y", "OLD=style value"], "Labels": {"one": "1", "two words": "2"},
                "ExposedPorts": {"80/tcp": {}, "53/udp": {}}, "Volumes": {"/data": {}}, "WorkingDir": "/srv/app",
                "User": "1000:1000", "Entrypoint": ["/bin/app"], "Cmd": ["/bin/sh", "-c", "--flag"],
                "StopSignal": "SIGINT", "OnBuild": ["RUN x"],
                "Healthcheck": {"Interval": 90_000_000_000_i64, "Retries": 2, "Test": ["CMD-SHELL", "curl localhost"]}})
        );
        for bad in [
            "RUN x",
            "ENV",
            "ENV a",
            "LABEL 'x",
            "HEALTHCHECK --interval=1 CMD x",
            "nonsense",
        ] {
            assert!(apply(&mut config, &[bad.to_owned()]).is_err(), "{bad}");
        }
    }
}
