//! How much room files take.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Files that are looked at; a larger folder is counted in part.
const MAX_FILES: u64 = 1_000_000;

/// Bytes of all files in a folder. What vanishes while it is looked at counts nothing.
pub(crate) fn folder_size(folder: &Path) -> u64 {
    let (mut bytes, mut seen) = (0, 0);
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(items) = std::fs::read_dir(&folder) else {
            continue;
        };
        for item in items.flatten() {
            let Ok(metadata) = item.metadata() else { continue };
            seen += 1;
            if seen >= MAX_FILES {
                return bytes;
            }
            if metadata.is_dir() {
                folders.push(item.path());
            } else {
                bytes += metadata.size();
            }
        }
    }
    bytes
}
