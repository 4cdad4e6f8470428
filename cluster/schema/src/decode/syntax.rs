//! The sentence upstream gives for bytes that are no JSON.

/// What is wrong with the bytes as JSON, in the words clients of upstream see; `None` if nothing.
pub fn syntax_error(bytes: &[u8]) -> Option<String> {
    let mut scanner = Scanner { bytes, at: 0 };
    match scanner.document() {
        Ok(()) => None,
        Err(Fault::End) => Some("unexpected end of JSON input".to_owned()),
        Err(Fault::Depth) => Some("exceeded max depth".to_owned()),
        Err(Fault::Byte(byte, context)) => Some(format!("invalid character {} {context}", quoted(byte))),
    }
}

/// Deeper documents are refused; the decoder has the same limit.
const MAX_DEPTH: usize = 128;

enum Fault {
    End,
    Depth,
    Byte(u8, String),
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

fn quoted(byte: u8) -> String {
    match byte {
        b'\'' => r"'\''".to_owned(),
        b'"' => "'\"'".to_owned(),
        b'\n' => r"'\n'".to_owned(),
        b'\r' => r"'\r'".to_owned(),
        b'\t' => r"'\t'".to_owned(),
        b'\\' => r"'\\'".to_owned(),
        0x20..=0x7e => format!("'{}'", byte as char),
        0xa1..=0xac | 0xae..=0xff => format!("'{}'", char::from(byte)),
        0x80..=0xa0 | 0xad => format!(r"'\u{byte:04x}'"),
        _ => format!(r"'\x{byte:02x}'"),
    }
}

impl Scanner<'_> {
    fn document(&mut self) -> Result<(), Fault> {
        self.value(0)?;
        match self.skip_space() {
            None => Ok(()),
            Some(byte) => Err(Fault::Byte(byte, "after top-level value".to_owned())),
        }
    }

    fn skip_space(&mut self) -> Option<u8> {
        while let Some(byte) = self.bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
                return Some(*byte);
            }
            self.at += 1;
        }
        None
    }

    fn next(&mut self) -> Result<u8, Fault> {
        let byte = self.bytes.get(self.at).copied().ok_or(Fault::End)?;
        self.at += 1;
        Ok(byte)
    }

    fn value(&mut self, depth: usize) -> Result<(), Fault> {
        if depth > MAX_DEPTH {
            return Err(Fault::Depth);
        }
        let first = self.skip_space().ok_or(Fault::End)?;
        self.at += 1;
        match first {
            b'{' => self.object(depth),
            b'[' => self.array(depth),
            b'"' => self.string(),
            b'-' | b'0'..=b'9' => self.number(first),
            b't' => self.literal("true"),
            b'f' => self.literal("false"),
            b'n' => self.literal("null"),
            other => Err(Fault::Byte(other, "looking for beginning of value".to_owned())),
        }
    }

    fn object(&mut self, depth: usize) -> Result<(), Fault> {
        if self.skip_space() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            match self.skip_space().ok_or(Fault::End)? {
                b'"' => self.at += 1,
                other => {
                    return Err(Fault::Byte(
                        other,
                        "looking for beginning of object key string".to_owned(),
                    ));
                }
            }
            self.string()?;
            match self.skip_space().ok_or(Fault::End)? {
                b':' => self.at += 1,
                other => return Err(Fault::Byte(other, "after object key".to_owned())),
            }
            self.value(depth + 1)?;
            let after = self.skip_space().ok_or(Fault::End)?;
            self.at += 1;
            match after {
                b',' => {}
                b'}' => return Ok(()),
                other => return Err(Fault::Byte(other, "after object key:value pair".to_owned())),
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<(), Fault> {
        if self.skip_space() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.value(depth + 1)?;
            let after = self.skip_space().ok_or(Fault::End)?;
            self.at += 1;
            match after {
                b',' => {}
                b']' => return Ok(()),
                other => return Err(Fault::Byte(other, "after array element".to_owned())),
            }
        }
    }

    fn string(&mut self) -> Result<(), Fault> {
        loop {
            match self.next()? {
                b'"' => return Ok(()),
                b'\\' => self.escape()?,
                byte if byte < 0x20 => return Err(Fault::Byte(byte, "in string literal".to_owned())),
                _ => {}
            }
        }
    }

    fn escape(&mut self) -> Result<(), Fault> {
        match self.next()? {
            b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"' => Ok(()),
            b'u' => {
                for _ in 0..4 {
                    let byte = self.next()?;
                    if !byte.is_ascii_hexdigit() {
                        return Err(Fault::Byte(byte, r"in \u hexadecimal character escape".to_owned()));
                    }
                }
                Ok(())
            }
            other => Err(Fault::Byte(other, "in string escape code".to_owned())),
        }
    }

    fn number(&mut self, first: u8) -> Result<(), Fault> {
        let mut leading = first;
        if first == b'-' {
            leading = self.digit("in numeric literal")?;
        }
        if leading != b'0' {
            self.digits();
        }
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digit("after decimal point in numeric literal")?;
            self.digits();
        }
        if matches!(self.bytes.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.bytes.get(self.at), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digit("in exponent of numeric literal")?;
            self.digits();
        }
        Ok(())
    }

    fn digit(&mut self, context: &str) -> Result<u8, Fault> {
        match self.next()? {
            byte @ b'0'..=b'9' => Ok(byte),
            other => Err(Fault::Byte(other, context.to_owned())),
        }
    }

    fn digits(&mut self) {
        while matches!(self.bytes.get(self.at), Some(b'0'..=b'9')) {
            self.at += 1;
        }
    }

    fn literal(&mut self, word: &str) -> Result<(), Fault> {
        for wanted in word.bytes().skip(1) {
            let byte = self.next()?;
            if byte != wanted {
                return Err(Fault::Byte(
                    byte,
                    format!("in literal {word} (expecting '{}')", wanted as char),
                ));
            }
        }
        Ok(())
    }
}
