//! resource.Quantity: decimal and binary amounts.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::{cmp::Ordering, fmt, str::FromStr};

/// An amount such as `100m`, `1.5`, `64Mi` or `3e2`.
///
/// Kept as nano-units in 128 bits: every amount of the API fits exactly, as upstream caps
/// precision at nano and size at 2^63-1 units.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quantity {
    nano: i128,
    format: Format,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Format {
    #[default]
    DecimalSi,
    BinarySi,
    DecimalExponent,
}

const NANO: i128 = 1_000_000_000;

/// Why text is not a quantity; the sentences are upstream's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// The number part is malformed.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    /// The suffix is not known.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

impl Quantity {
    /// So many whole units, printed as a decimal.
    pub fn from_units(units: i64) -> Self {
        Self::decimal(i128::from(units) * NANO)
    }

    /// So many thousandths of a unit, printed as a decimal.
    pub fn from_milli(milli: i64) -> Self {
        Self::decimal(i128::from(milli) * (NANO / 1000))
    }

    /// So many bytes, printed with a binary suffix.
    pub fn from_bytes(bytes: i64) -> Self {
        Self {
            nano: i128::from(bytes) * NANO,
            format: Format::BinarySi,
        }
    }

    fn decimal(nano: i128) -> Self {
        Self {
            nano,
            format: Format::DecimalSi,
        }
    }

    /// Whole units, rounded up (away from zero), as upstream's `Value()`.
    pub fn value(&self) -> i64 {
        scaled(self.nano, NANO)
    }

    /// Thousandths, rounded up (away from zero), as upstream's `MilliValue()`.
    pub fn milli_value(&self) -> i64 {
        scaled(self.nano, NANO / 1000)
    }

    /// The exact amount in billionths of a unit.
    pub fn nano_value(&self) -> i128 {
        self.nano
    }

    /// Whether the amount is zero.
    pub fn is_zero(&self) -> bool {
        self.nano == 0
    }

    /// Whether the amount is below zero.
    pub fn is_negative(&self) -> bool {
        self.nano < 0
    }

    /// The sum, in this amount's format.
    pub fn plus(self, other: Self) -> Self {
        Self {
            nano: self.nano.saturating_add(other.nano),
            format: self.format,
        }
    }

    /// The difference, in this amount's format.
    pub fn minus(self, other: Self) -> Self {
        Self {
            nano: self.nano.saturating_sub(other.nano),
            format: self.format,
        }
    }
}

fn scaled(nano: i128, unit: i128) -> i64 {
    let quotient = nano / unit;
    let up = if nano % unit == 0 { 0 } else { nano.signum() };
    (quotient + up).clamp(i64::MIN.into(), i64::MAX.into()) as i64
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nano == other.nano
    }
}
impl Eq for Quantity {}
impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nano.cmp(&other.nano)
    }
}

/// The factor of a suffix as (nano-units, format).
fn suffix_factor(suffix: &str) -> Option<(i128, Format)> {
    let decimal = |power: u32| Some((10i128.pow(power), Format::DecimalSi));
    let binary = |power: u32| Some((NANO << (10 * power), Format::BinarySi));
    match suffix {
        "n" => decimal(0),
        "u" => decimal(3),
        "m" => decimal(6),
        "" => decimal(9),
        "k" => decimal(12),
        "M" => decimal(15),
        "G" => decimal(18),
        "T" => decimal(21),
        "P" => decimal(24),
        "E" => decimal(27),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        _ => None,
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let (negative, unsigned) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let end = unsigned
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(QuantityError::Format);
        }
        let (factor, format) = match suffix.strip_prefix(['e', 'E']) {
            Some(exponent) if !exponent.is_empty() => exponent_factor(exponent)?,
            _ => suffix_factor(suffix).ok_or_else(|| unknown_suffix(suffix))?,
        };
        let nano = digits_times(whole, fraction, factor);
        Ok(Self {
            nano: if negative { -nano } else { nano },
            format,
        })
    }
}

/// Letters that no suffix has make the whole text malformed.
fn unknown_suffix(suffix: &str) -> QuantityError {
    let tail = suffix.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
    let digits = tail.strip_prefix(['+', '-']).unwrap_or(tail);
    match digits.bytes().all(|b| b.is_ascii_digit()) {
        true => QuantityError::Suffix,
        false => QuantityError::Format,
    }
}

fn exponent_factor(exponent: &str) -> Result<(i128, Format), QuantityError> {
    let power: i32 = exponent.parse().map_err(|_| QuantityError::Suffix)?;
    let power = u32::try_from(power.clamp(-9, 18) + 9).map_err(|_| QuantityError::Suffix)?;
    Ok((10i128.pow(power), Format::DecimalExponent))
}

/// `whole.fraction` times `factor`, rounded up to the next nano-unit and capped at 2^63-1 units.
fn digits_times(whole: &str, fraction: &str, factor: i128) -> i128 {
    let cap = i128::from(i64::MAX) * NANO;
    let mut value: i128 = 0;
    for digit in whole.bytes() {
        value = (value * 10 + i128::from(digit - b'0')).min(cap);
    }
    let mut nano = value.saturating_mul(factor);
    // Fraction digits beyond 27 places are below a nano-unit of any suffix; they only round up.
    let mut scale = 1i128;
    let mut part: i128 = 0;
    let mut rest = false;
    for digit in fraction.bytes() {
        if scale < 10i128.pow(18) {
            part = part * 10 + i128::from(digit - b'0');
            scale *= 10;
        } else {
            rest |= digit != b'0';
        }
    }
    let product = part.saturating_mul(factor);
    let up = i128::from(product % scale != 0 || rest);
    nano = nano.saturating_add(product / scale + up);
    nano.min(cap)
}

impl fmt::Display for Quantity {
    /// The canonical form: no fraction, the largest suffix that allows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nano == 0 {
            return f.write_str("0");
        }
        if self.format == Format::BinarySi && self.nano % NANO == 0 && (self.nano / NANO).abs() >= 1024 {
            return write_binary(f, self.nano / NANO);
        }
        let suffixes: [(&str, &str); 10] = [
            ("E", "e18"),
            ("P", "e15"),
            ("T", "e12"),
            ("G", "e9"),
            ("M", "e6"),
            ("k", "e3"),
            ("", ""),
            ("m", "e-3"),
            ("u", "e-6"),
            ("n", "e-9"),
        ];
        let mut unit = 10i128.pow(27);
        for (si, exponent) in suffixes {
            if self.nano % unit == 0 {
                let suffix = if self.format == Format::DecimalExponent {
                    exponent
                } else {
                    si
                };
                return write!(f, "{}{suffix}", self.nano / unit);
            }
            unit /= 1000;
        }
        unreachable!("every amount is a whole number of nano-units")
    }
}

fn write_binary(f: &mut fmt::Formatter<'_>, units: i128) -> fmt::Result {
    let mut value = units;
    let mut suffix = "";
    for next in ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"] {
        if value % 1024 != 0 {
            break;
        }
        value /= 1024;
        suffix = next;
    }
    write!(f, "{value}{suffix}")
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    /// From text, or from a bare number as clients may write it.
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = match serde_json::Value::deserialize(d)? {
            serde_json::Value::String(text) => text,
            serde_json::Value::Number(number) => number.to_string(),
            serde_json::Value::Null => "0".to_owned(),
            other => {
                return Err(D::Error::custom(format!(
                    "quantity: expected text or number, found {other}"
                )));
            }
        };
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_print_canonically() {
        for (text, canonical) in [
            ("0", "0"),
            ("100m", "100m"),
            ("0.1", "100m"),
            ("1.5", "1500m"),
            ("1000m", "1"),
            ("1500Mi", "1500Mi"),
            ("1024Mi", "1Gi"),
            ("2048Ki", "2Mi"),
            ("1.5Gi", "1536Mi"),
            ("1000", "1k"),
            ("1e3", "1e3"),
            ("9E", "9E"),
            ("-5m", "-5m"),
            ("512", "512"),
            ("0.5Ki", "512"),
            ("1n", "1n"),
            ("0.1n", "1n"),
        ] {
            assert_eq!(text.parse::<Quantity>().expect(text).to_string(), canonical, "{text}");
        }
        for bad in ["", "a", "1x", ".", "1.2.3", "1 Mi", "--1", "1ki"] {
            assert!(bad.parse::<Quantity>().is_err(), "{bad}");
        }
    }

    #[test]
    fn values_round_away_from_zero() {
        let q: Quantity = "1.0001".parse().expect("valid");
        assert_eq!((q.value(), q.milli_value()), (2, 1001));
        assert_eq!("64Mi".parse::<Quantity>().expect("valid").value(), 64 << 20);
        assert!("1Gi".parse::<Quantity>().expect("valid") > "1G".parse().expect("valid"));
    }
}
