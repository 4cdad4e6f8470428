//! What a frame's payload is made of. All numbers are little-endian.

use crate::{KeyValue, LeaseId};
use bytes::Bytes;
use std::time::Duration;
use strata_meta::Revision;

const PUT: u8 = 1;
const DELETE: u8 = 2;
const COMPACT: u8 = 3;
const GRANT: u8 = 4;
const REVOKE: u8 = 5;
const ITEM: u8 = 6;
const END: u8 = 7;

/// One change in the log, or one part of a snapshot.
#[derive(Debug, PartialEq)]
pub(crate) enum Record<'a> {
    Put {
        revision: Revision,
        lease: Option<LeaseId>,
        key: &'a [u8],
        value: &'a [u8],
    },
    Delete {
        revision: Revision,
        key: &'a [u8],
    },
    Compact {
        revision: Revision,
    },
    Grant {
        id: LeaseId,
        ttl: Duration,
    },
    Revoke {
        id: LeaseId,
    },
    /// Only in a snapshot: a live key.
    Item {
        created: Revision,
        modified: Revision,
        lease: Option<LeaseId>,
        key: &'a [u8],
        value: &'a [u8],
    },
    /// Ends a snapshot: how many items it has.
    End {
        items: u64,
    },
}

impl<'a> Record<'a> {
    pub fn item(item: &'a KeyValue) -> Self {
        Self::Item {
            created: item.create_revision,
            modified: item.mod_revision,
            lease: item.lease,
            key: &item.key,
            value: &item.value,
        }
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Put {
                revision,
                lease,
                key,
                value,
            } => {
                out.push(PUT);
                numbers(out, &[revision.0, number_of(lease)]);
                texts(out, &[key, value]);
            }
            Self::Delete { revision, key } => {
                out.push(DELETE);
                numbers(out, &[revision.0]);
                texts(out, &[key]);
            }
            Self::Compact { revision } => {
                out.push(COMPACT);
                numbers(out, &[revision.0]);
            }
            Self::Grant { id, ttl } => {
                out.push(GRANT);
                numbers(out, &[id.0, u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)]);
            }
            Self::Revoke { id } => {
                out.push(REVOKE);
                numbers(out, &[id.0]);
            }
            Self::Item {
                created,
                modified,
                lease,
                key,
                value,
            } => {
                out.push(ITEM);
                numbers(out, &[created.0, modified.0, number_of(lease)]);
                texts(out, &[key, value]);
            }
            Self::End { items } => {
                out.push(END);
                numbers(out, &[items]);
            }
        }
    }

    /// Reads one record from the front of `input`; `None` if it is malformed.
    pub fn decode(input: &mut &'a [u8]) -> Option<Self> {
        let tag = *input.split_off_first()?;
        Some(match tag {
            PUT => Self::Put {
                revision: Revision(number(input)?),
                lease: lease(input)?,
                key: text(input)?,
                value: text(input)?,
            },
            DELETE => Self::Delete {
                revision: Revision(number(input)?),
                key: text(input)?,
            },
            COMPACT => Self::Compact {
                revision: Revision(number(input)?),
            },
            GRANT => Self::Grant {
                id: LeaseId(number(input)?),
                ttl: Duration::from_millis(number(input)?),
            },
            REVOKE => Self::Revoke {
                id: LeaseId(number(input)?),
            },
            ITEM => Self::Item {
                created: Revision(number(input)?),
                modified: Revision(number(input)?),
                lease: lease(input)?,
                key: text(input)?,
                value: text(input)?,
            },
            END => Self::End { items: number(input)? },
            _ => return None,
        })
    }
}

fn numbers(out: &mut Vec<u8>, numbers: &[u64]) {
    for number in numbers {
        out.extend_from_slice(&number.to_le_bytes());
    }
}

/// Lengths fit: the limits on keys and values are far below 4 GiB, and checked before.
fn texts(out: &mut Vec<u8>, texts: &[&[u8]]) {
    for text in texts {
        out.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend_from_slice(text);
    }
}

fn number_of(lease: Option<LeaseId>) -> u64 {
    lease.map_or(0, |lease| lease.0)
}

fn number(input: &mut &[u8]) -> Option<u64> {
    let (bytes, rest) = input.split_first_chunk::<8>()?;
    *input = rest;
    Some(u64::from_le_bytes(*bytes))
}

fn lease(input: &mut &[u8]) -> Option<Option<LeaseId>> {
    let id = number(input)?;
    Some((id != 0).then_some(LeaseId(id)))
}

fn text<'a>(input: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = input.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let (text, rest) = rest.split_at_checked(length)?;
    *input = rest;
    Some(text)
}

/// An item as the map holds it, in an allocation of its own.
pub(crate) fn owned(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_read_back_and_cut_ones_are_refused() {
        let records = [
            Record::Put {
                revision: Revision(7),
                lease: Some(LeaseId(9)),
                key: b"k",
                value: b"value",
            },
            Record::Delete {
                revision: Revision(8),
                key: b"k",
            },
            Record::Compact { revision: Revision(3) },
            Record::Grant {
                id: LeaseId(1),
                ttl: Duration::from_millis(1500),
            },
            Record::Revoke { id: LeaseId(1) },
            Record::Item {
                created: Revision(1),
                modified: Revision(2),
                lease: None,
                key: b"",
                value: b"v",
            },
            Record::End { items: 1 },
        ];
        for record in &records {
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            let mut input = &bytes[..];
            assert_eq!(Record::decode(&mut input).as_ref(), Some(record));
            assert!(input.is_empty());
            for cut in 0..bytes.len() {
                assert_eq!(Record::decode(&mut &bytes[..cut]), None, "{record:?} cut to {cut}");
            }
        }
    }
}
