//! Properties of the DNS wire format.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use proptest::prelude::*;
use strata_net::dns::{Edns, Message, Name, Question, ReadError, Record, RecordData, class, kind, ttl_fields};

fn name() -> impl Strategy<Value = Name> {
    let label = proptest::collection::vec(any::<u8>(), 1..20);
    proptest::collection::vec(label, 0..6)
        .prop_map(|labels| Name::from_labels(labels.iter().map(Vec::as_slice)).unwrap())
}

const ZONES: &[&str] = &[
    "svc.cluster.local",
    "cluster.local",
    "SVC.cluster.LOCAL",
    "example.org",
    ".",
];

/// Names that share suffixes, so that compression has something to do.
fn related_name() -> impl Strategy<Value = Name> {
    ("[a-z]{1,8}", proptest::sample::select(ZONES)).prop_map(|(label, zone)| {
        Name::from_labels([label.as_bytes()])
            .unwrap()
            .under(&zone.parse().unwrap())
            .unwrap()
    })
}

fn data() -> impl Strategy<Value = RecordData> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(|octets| RecordData::A(octets.into())),
        any::<[u8; 16]>().prop_map(|octets| RecordData::Aaaa(octets.into())),
        related_name().prop_map(RecordData::Cname),
        related_name().prop_map(RecordData::Ptr),
        proptest::collection::vec(any::<u8>(), 0..600).prop_map(RecordData::Txt),
        (any::<u16>(), related_name()).prop_map(|(port, target)| RecordData::Srv {
            priority: 0,
            weight: 1,
            port,
            target
        }),
        (related_name(), any::<u32>()).prop_map(|(primary, serial)| RecordData::Soa {
            mailbox: primary.clone(),
            primary,
            serial,
            refresh: 1,
            retry: 2,
            expire: 3,
            minimum: 4,
        }),
        (name(), any::<u16>()).prop_map(|(name, kind)| RecordData::Other {
            kind: 1000 + kind % 1000,
            class: class::IN,
            bytes: name.as_wire().to_vec(),
        }),
    ]
}

fn records() -> impl Strategy<Value = Vec<Record>> {
    let record = (related_name(), any::<u32>(), data()).prop_map(|(name, ttl, data)| Record { name, ttl, data });
    proptest::collection::vec(record, 0..5)
}

fn message() -> impl Strategy<Value = Message> {
    let edns = proptest::option::of(any::<(u16, bool)>());
    (
        any::<u16>(),
        any::<[bool; 7]>(),
        0..16_u8,
        name(),
        records(),
        records(),
        records(),
        edns,
    )
        .prop_map(
            |(id, flags, code, name, answers, authorities, additionals, edns)| Message {
                id,
                response: flags[0],
                opcode: code / 2,
                authoritative: flags[1],
                truncated: flags[2],
                recursion_desired: flags[3],
                recursion_available: flags[4],
                authentic: flags[5],
                checking_disabled: flags[6],
                rcode: code,
                questions: vec![Question {
                    name,
                    kind: kind::A,
                    class: class::IN,
                }],
                answers,
                authorities,
                additionals,
                edns: edns.map(|(udp_size, dnssec_ok)| Edns {
                    udp_size,
                    version: 0,
                    dnssec_ok,
                }),
            },
        )
}

proptest! {
    #[test]
    fn a_message_reads_back_as_it_was_written(message in message()) {
        let bytes = message.encode(65_535);
        prop_assert_eq!(&Message::parse(&bytes).unwrap(), &message);
        let fields = ttl_fields(&bytes).unwrap();
        let ttls: Vec<u32> = fields.iter().map(|field| field.ttl).collect();
        let sections = [&message.answers, &message.authorities, &message.additionals];
        prop_assert_eq!(ttls, sections.into_iter().flatten().map(|record| record.ttl).collect::<Vec<_>>());
    }

    #[test]
    fn a_short_limit_is_kept_and_told(message in message()) {
        let bytes = message.encode(512);
        prop_assert!(bytes.len() <= 512);
        let read = Message::parse(&bytes).unwrap();
        prop_assert!(message.answers.starts_with(&read.answers));
        prop_assert!(read.truncated || read.answers == message.answers && read.authorities == message.authorities);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(message) = Message::parse(&bytes) {
            message.encode(512);
        }
        let _ = ttl_fields(&bytes);
    }

    #[test]
    fn damaged_messages_are_read_or_refused(message in message(), damage in any::<(usize, u8)>(), cut in any::<usize>()) {
        let mut bytes = message.encode(65_535);
        bytes.truncate(cut % bytes.len());
        prop_assert!(Message::parse(&bytes).is_err());
        let mut bytes = message.encode(65_535);
        let at = damage.0 % bytes.len();
        bytes[at] = damage.1;
        let _ = Message::parse(&bytes);
    }
}

#[test]
fn compression_loops_and_forward_pointers_are_refused() {
    let header = [0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for name in [
        &[0xc0, 12][..],
        &[0xc0, 14, 0xc0, 12],
        &[1, b'a', 0xc0, 12],
        &[0x40, 0],
        &[0x80, 0],
        &[0xc0, 40],
    ] {
        let bytes = [&header[..], name, &[0, 1, 0, 1]].concat();
        assert_eq!(Message::parse(&bytes), Err(ReadError::Name), "{name:?}");
    }
}

#[test]
fn names_compare_without_case_and_print_escaped() {
    let name: Name = "Web.Default.svc.cluster.local.".parse().unwrap();
    assert_eq!(name, "web.default.SVC.cluster.local".parse().unwrap());
    let under = name.labels_under(&"svc.cluster.local".parse().unwrap()).unwrap();
    assert_eq!(under, [&b"Web"[..], b"Default"]);
    assert!(name.labels_under(&"example.org".parse().unwrap()).is_none());
    assert_eq!(Name::from_labels([&b"a.b\x07"[..]]).unwrap().to_string(), "a\\.b\\007.");
    assert_eq!(Name::root().to_string(), ".");
    assert!("a..b".parse::<Name>().is_err());
    assert!("x".repeat(64).parse::<Name>().is_err());
    assert!(["y"; 130].join(".").parse::<Name>().is_err());
}
