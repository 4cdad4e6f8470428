//! Names of containers, volumes and networks: which are allowed, and one for those that have none.

use crate::error::{Answer, ApiError};

const ALLOWED: &str = "[a-zA-Z0-9][a-zA-Z0-9_.-]";
/// How often a random name may be taken before a number is put after it.
const TRIES: usize = 16;

const QUALITIES: &[&str] = &[
    "airy", "amber", "bold", "brave", "breezy", "bright", "brisk", "calm", "candid", "clever", "cosy", "crisp",
    "dapper", "deft", "eager", "early", "fair", "fleet", "fond", "frank", "fresh", "gentle", "glad", "golden", "grand",
    "happy", "hardy", "hearty", "honest", "humble", "jolly", "keen", "kind", "light", "lively", "lucid", "lucky",
    "mellow", "merry", "mild", "modest", "neat", "nimble", "noble", "patient", "placid", "plucky", "polite", "proud",
    "quick", "quiet", "rapid", "ready", "serene", "sharp", "shiny", "silent", "smooth", "snug", "sober", "solid",
    "spry", "steady", "still", "stout", "sunny", "swift", "tender", "tidy", "trusty", "vivid", "warm", "wise", "witty",
];
const ROCKS: &[&str] = &[
    "agate",
    "andesite",
    "basalt",
    "beryl",
    "breccia",
    "chalk",
    "chert",
    "clay",
    "coral",
    "diorite",
    "dolomite",
    "dunite",
    "feldspar",
    "flint",
    "gabbro",
    "garnet",
    "gneiss",
    "granite",
    "gypsum",
    "halite",
    "hornfels",
    "jade",
    "jasper",
    "kaolin",
    "lapis",
    "larvikite",
    "lignite",
    "limestone",
    "loam",
    "loess",
    "marble",
    "marl",
    "mica",
    "moraine",
    "mudstone",
    "obsidian",
    "olivine",
    "onyx",
    "opal",
    "peat",
    "pebble",
    "peridot",
    "phyllite",
    "porphyry",
    "pumice",
    "pyrite",
    "quartz",
    "rhyolite",
    "sandstone",
    "schist",
    "scoria",
    "serpentine",
    "shale",
    "silt",
    "slate",
    "soapstone",
    "spinel",
    "sylvite",
    "syenite",
    "talc",
    "tephra",
    "topaz",
    "trachyte",
    "travertine",
    "tuff",
    "turquoise",
    "zeolite",
    "zircon",
];

/// A name that a user gives, if it may be one.
pub(crate) fn checked(name: &str) -> Answer<String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let bytes = name.as_bytes();
    let first = bytes.first().is_some_and(u8::is_ascii_alphanumeric);
    if first && bytes.len() > 1 && bytes.len() <= 255 && bytes.iter().all(|byte| allowed(*byte)) {
        return Ok(name.to_owned());
    }
    Err(ApiError::invalid(format!(
        "Invalid container name ({name}), only {ALLOWED} are allowed"
    )))
}

/// A name that nobody has.
pub(crate) fn random_name(is_free: impl Fn(&str) -> bool) -> Answer<String> {
    for attempt in 0.. {
        let mut bytes = [0u8; 8];
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
            .map_err(|errno| ApiError::internal(format!("random bytes: {errno}")))?;
        let number = u64::from_ne_bytes(bytes);
        let quality = QUALITIES[(number % QUALITIES.len() as u64) as usize];
        let rock = ROCKS[((number >> 20) % ROCKS.len() as u64) as usize];
        let name = match attempt {
            ..TRIES => format!("{quality}_{rock}"),
            _ => format!("{quality}_{rock}{}", number >> 40),
        };
        if is_free(&name) {
            return Ok(name);
        }
    }
    Err(ApiError::internal("no free name"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_and_random_ones_pass() {
        for bad in ["", "a", "-ab", "a/b", "a b", "ä1"] {
            assert!(checked(bad).is_err(), "{bad:?}");
        }
        assert!(checked("web-1.x_y").is_ok());
        let name = random_name(|name| !name.ends_with('e')).expect("a name");
        assert!(checked(&name).is_ok());
        assert!(QUALITIES.iter().chain(ROCKS).all(|word| checked(word).is_ok()));
    }
}
