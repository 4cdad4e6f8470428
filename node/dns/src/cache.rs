//! Answers of other resolvers, kept as long as they say.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use strata_net::dns::{Message, Question, kind, rcode, ttl_fields};

/// Answers kept at most, and their size: together 8 MiB.
const MOST: usize = 4_096;
const LARGEST: usize = 2_048;
/// A resolver's mistake should not last longer.
const LONGEST: Duration = Duration::from_secs(300);
/// For "no such name" and "no records".
const LONGEST_NEGATIVE: Duration = Duration::from_secs(30);

/// What makes two queries the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct CacheKey {
    question: Question,
    edns: bool,
    dnssec: bool,
    checking_disabled: bool,
}

impl CacheKey {
    pub(crate) fn of(query: &Message) -> Option<Self> {
        Some(Self {
            question: query.questions.first()?.clone(),
            edns: query.edns.is_some(),
            dnssec: query.edns.is_some_and(|edns| edns.dnssec_ok),
            checking_disabled: query.checking_disabled,
        })
    }
}

#[derive(Debug)]
struct Entry {
    bytes: Vec<u8>,
    stored: Instant,
    expires: Instant,
}

/// A bounded cache.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    entries: HashMap<CacheKey, Entry>,
}

impl Cache {
    /// The answer with its times to live counted down; the id is still that of the first query.
    pub(crate) fn get(&self, key: &CacheKey, now: Instant) -> Option<Vec<u8>> {
        let entry = self.entries.get(key).filter(|entry| entry.expires > now)?;
        let age = u32::try_from(now.saturating_duration_since(entry.stored).as_secs()).unwrap_or(u32::MAX);
        let mut bytes = entry.bytes.clone();
        for field in ttl_fields(&bytes).ok()? {
            let left = field.ttl.saturating_sub(age).to_be_bytes();
            bytes.get_mut(field.offset..field.offset + 4)?.copy_from_slice(&left);
        }
        Some(bytes)
    }

    pub(crate) fn put(&mut self, key: CacheKey, bytes: &[u8], now: Instant) {
        let Some(life) = lifetime(bytes).filter(|life| !life.is_zero() && bytes.len() <= LARGEST) else {
            return;
        };
        if self.entries.len() >= MOST {
            self.make_room(now);
        }
        self.entries.insert(
            key,
            Entry {
                bytes: bytes.to_vec(),
                stored: now,
                expires: now + life,
            },
        );
    }

    /// Removes what has expired, or else the quarter that expires first.
    fn make_room(&mut self, now: Instant) {
        self.entries.retain(|_, entry| entry.expires > now);
        if self.entries.len() >= MOST {
            let mut expiries: Vec<Instant> = self.entries.values().map(|entry| entry.expires).collect();
            let (_, quarter, _) = expiries.select_nth_unstable(MOST / 4);
            let quarter = *quarter;
            self.entries.retain(|_, entry| entry.expires > quarter);
        }
    }
}

/// How long an answer may be kept (RFC 2308 for negative ones).
fn lifetime(bytes: &[u8]) -> Option<Duration> {
    let message = Message::parse(bytes).ok()?;
    if message.truncated || ![rcode::NOERROR, rcode::NXDOMAIN].contains(&message.rcode) {
        return None;
    }
    let fields = ttl_fields(bytes).ok()?;
    let shortest = fields.iter().map(|field| field.ttl).min();
    if message.answers.is_empty() {
        // Without an SOA record nothing says how long the absence lasts.
        let soa = fields.iter().find(|field| field.kind == kind::SOA)?;
        return Some(Duration::from_secs(soa.ttl.into()).min(LONGEST_NEGATIVE));
    }
    Some(Duration::from_secs(shortest?.into()).min(LONGEST))
}

#[cfg(test)]
mod tests {
    use strata_net::dns::{Record, RecordData, class};

    use super::*;

    fn answer(ttl: u32, code: u8) -> (CacheKey, Vec<u8>) {
        let question = Question {
            name: "example.org".parse().unwrap(),
            kind: kind::A,
            class: class::IN,
        };
        let query = Message::query(7, question.clone());
        let mut reply = query.reply(code);
        let data = RecordData::A([192, 0, 2, 1].into());
        reply.answers.push(Record {
            name: question.name,
            ttl,
            data,
        });
        (CacheKey::of(&query).unwrap(), reply.encode(512))
    }

    #[test]
    fn answers_count_down_and_expire() {
        let now = Instant::now();
        let mut cache = Cache::default();
        let (key, bytes) = answer(20, rcode::NOERROR);
        cache.put(key.clone(), &bytes, now);
        let later = cache.get(&key, now + Duration::from_secs(15)).unwrap();
        assert_eq!(Message::parse(&later).unwrap().answers[0].ttl, 5);
        assert!(cache.get(&key, now + Duration::from_secs(20)).is_none());
    }

    #[test]
    fn failures_and_zero_lifetimes_are_not_kept() {
        let now = Instant::now();
        let mut cache = Cache::default();
        for (ttl, code) in [(20, rcode::SERVFAIL), (0, rcode::NOERROR)] {
            let (key, bytes) = answer(ttl, code);
            cache.put(key.clone(), &bytes, now);
            assert!(cache.get(&key, now).is_none());
        }
    }

    #[test]
    fn the_cache_stays_bounded() {
        let now = Instant::now();
        let mut cache = Cache::default();
        let (key, bytes) = answer(20, rcode::NOERROR);
        for number in 0..2 * MOST {
            let mut key = key.clone();
            key.question.name = format!("{number}.example.org").parse().unwrap();
            cache.put(key, &bytes, now + Duration::from_millis(number as u64));
        }
        assert!(cache.entries.len() <= MOST);
    }
}
