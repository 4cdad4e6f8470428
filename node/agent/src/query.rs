//! Query strings of the agent's API.

use std::collections::BTreeMap;

/// The parameters of a request, repeated ones in order.
#[derive(Clone, Debug, Default)]
pub struct Query(BTreeMap<String, Vec<String>>);

impl Query {
    /// Reads a query string (application/x-www-form-urlencoded).
    pub fn parse(text: &str) -> Self {
        let mut parameters: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            parameters.entry(decode(name)).or_default().push(decode(value));
        }
        Self(parameters)
    }

    /// The first value of a parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.first().map(String::as_str)
    }

    /// All values of a parameter.
    pub fn all(&self, name: &str) -> Vec<String> {
        self.0.get(name).cloned().unwrap_or_default()
    }

    /// Whether a parameter is there and says yes.
    pub fn flag(&self, name: &str) -> bool {
        matches!(self.get(name), Some("" | "1" | "true" | "True" | "TRUE" | "t"))
    }

    /// A number; an error names the parameter.
    pub fn number(&self, name: &str) -> Result<Option<u64>, String> {
        let parse = |text: &str| text.parse().map_err(|_| format!("invalid value {text:?} of {name}"));
        self.get(name).map(parse).transpose()
    }
}

fn decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        match b {
            b'+' => out.push(b' '),
            b'%' => {
                let mut rest = bytes.clone();
                let hex = rest.next().zip(rest.next());
                let digit = |b: u8| char::from(b).to_digit(16);
                match hex.and_then(|(high, low)| Some(digit(high)? * 16 + digit(low)?)) {
                    Some(value) => {
                        out.push(value as u8);
                        bytes = rest;
                    }
                    None => out.push(b'%'),
                }
            }
            _ => out.push(b),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_may_repeat() {
        let q = Query::parse("command=sh&command=-c&command=a%20%2b+b&stdin=true&tailLines=5&bad=%zz");
        assert_eq!(q.all("command"), ["sh", "-c", "a + b"]);
        assert!(q.flag("stdin") && !q.flag("tty"));
        assert_eq!(q.number("tailLines"), Ok(Some(5)));
        assert!(q.number("bad").is_err());
    }
}
