//! The checksummed frame: one batch of the log, or one part of a snapshot.
//!
//! Every checksum begins with the file's salt, which nobody outside knows, so neither the
//! remains of a reused file nor bytes a client wrote can pass for a frame.

/// Bytes of a frame before its payload.
pub(crate) const FRAME_HEADER: usize = 24;
/// Frames begin at multiples of this.
pub(crate) const FRAME_ALIGN: usize = 8;
/// The largest payload that is believed when read: a batch (1 MiB) plus its last command.
pub(crate) const MAX_PAYLOAD: usize = 64 << 20;

const MAGIC: u32 = 0x4d41_5246;

/// The header of a frame whose own checksum holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct FrameHeader {
    pub payload: usize,
    pub sequence: u64,
    payload_checksum: u32,
    salt: u64,
}

/// Appends a frame.
pub(crate) fn encode(out: &mut Vec<u8>, salt: u64, sequence: u64, payload: &[u8]) {
    let start = out.len();
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&MAGIC.to_le_bytes());
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&sequence.to_le_bytes());
    out.extend_from_slice(&checksum(salt, payload).to_le_bytes());
    let header = checksum(salt, &out[start..]);
    out.extend_from_slice(&header.to_le_bytes());
    out.extend_from_slice(payload);
    out.resize(start + frame_size(payload.len()), 0);
}

/// Bytes a frame takes, padding included.
pub(crate) fn frame_size(payload: usize) -> usize {
    (FRAME_HEADER + payload).next_multiple_of(FRAME_ALIGN)
}

pub(crate) fn decode_header(bytes: &[u8], salt: u64) -> Option<FrameHeader> {
    let bytes = bytes.first_chunk::<FRAME_HEADER>()?;
    if bytes[..4] != MAGIC.to_le_bytes() || word(bytes, 20) != checksum(salt, &bytes[..20]) {
        return None;
    }
    let payload = usize::try_from(word(bytes, 4)).ok()?;
    let sequence = u64::from(word(bytes, 8)) | u64::from(word(bytes, 12)) << 32;
    (payload <= MAX_PAYLOAD).then_some(FrameHeader {
        payload,
        sequence,
        payload_checksum: word(bytes, 16),
        salt,
    })
}

impl FrameHeader {
    pub fn holds(&self, payload: &[u8]) -> bool {
        payload.len() == self.payload && checksum(self.salt, payload) == self.payload_checksum
    }
}

/// Whether a frame could begin here; quick, for searching.
pub(crate) fn maybe_header(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC.to_le_bytes())
}

pub(crate) fn checksum(salt: u64, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&salt.to_le_bytes()), bytes)
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Bytes of a file before its frames.
pub(crate) const FILE_HEADER: usize = 64;

/// The format that this version writes.
pub(crate) const FORMAT: u32 = 1;

/// How a log segment or a snapshot begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct FileHeader {
    pub kind: FileKind,
    pub format: u32,
    /// Which store the file belongs to.
    pub store: u64,
    pub salt: u64,
    /// Of the first log batch in a segment, or after a snapshot.
    pub sequence: u64,
    /// Of a snapshot; 0 in a segment.
    pub revision: u64,
}

/// The kinds of files that hold frames.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum FileKind {
    Segment,
    Snapshot,
}

impl FileKind {
    fn magic(self) -> &'static [u8; 8] {
        match self {
            Self::Segment => b"STRATLOG",
            Self::Snapshot => b"STRATSNP",
        }
    }
}

impl FileHeader {
    pub fn encode(&self) -> [u8; FILE_HEADER] {
        let mut out = [0; FILE_HEADER];
        out[..8].copy_from_slice(self.kind.magic());
        out[8..12].copy_from_slice(&self.format.to_le_bytes());
        for (at, number) in [
            (16, self.store),
            (24, self.salt),
            (32, self.sequence),
            (40, self.revision),
        ] {
            out[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        let sum = checksum(0, &out[..60]);
        out[60..].copy_from_slice(&sum.to_le_bytes());
        out
    }

    pub fn decode(bytes: &[u8; FILE_HEADER], kind: FileKind) -> Result<Self, &'static str> {
        if bytes[..8] != *kind.magic() {
            return Err("it does not begin as such a file does");
        }
        if word(bytes, 60) != checksum(0, &bytes[..60]) {
            return Err("the checksum of its header is wrong");
        }
        let number = |at| u64::from(word(bytes, at)) | u64::from(word(bytes, at + 4)) << 32;
        Ok(Self {
            kind,
            format: word(bytes, 8),
            store: number(16),
            salt: number(24),
            sequence: number(32),
            revision: number(40),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_reads_back_only_with_its_salt_and_unchanged() {
        let mut bytes = Vec::new();
        encode(&mut bytes, 5, 1 << 40, b"payload");
        assert_eq!(bytes.len() % FRAME_ALIGN, 0);
        let header = decode_header(&bytes, 5).expect("valid");
        assert_eq!((header.sequence, header.payload), (1 << 40, 7));
        assert!(header.holds(b"payload") && !header.holds(b"pbyload"));
        assert_eq!(decode_header(&bytes, 6), None);
        for bit in 0..FRAME_HEADER * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode_header(&changed, 5), None, "bit {bit}");
        }
    }

    #[test]
    fn a_file_header_reads_back_and_a_changed_one_is_refused() {
        let header = FileHeader {
            kind: FileKind::Snapshot,
            format: FORMAT,
            store: 1,
            salt: 2,
            sequence: 3,
            revision: 4,
        };
        let bytes = header.encode();
        assert_eq!(FileHeader::decode(&bytes, FileKind::Snapshot), Ok(header));
        assert!(FileHeader::decode(&bytes, FileKind::Segment).is_err());
        for at in 0..FILE_HEADER {
            let mut changed = bytes;
            changed[at] ^= 4;
            assert!(FileHeader::decode(&changed, FileKind::Snapshot).is_err(), "byte {at}");
        }
    }
}
