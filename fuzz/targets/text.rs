//! Selectors, quantities, times, paths and queries: what parses prints and parses to the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strata_meta::{FieldSelector, Quantity, Selector, Time};

fuzz_target!(|text: &str| {
    if let Ok(selector) = Selector::parse(text) {
        let printed = selector.to_string();
        assert_eq!(Selector::parse(&printed).map(|s| s.to_string()).ok(), Some(printed));
    }
    let _ = FieldSelector::parse(text);
    if let Ok(quantity) = text.parse::<Quantity>() {
        let printed = quantity.to_string();
        assert_eq!(printed.parse::<Quantity>().map(|q| q.to_string()).ok(), Some(printed));
    }
    if let Some(time) = Time::parse(text) {
        assert_eq!(Time::parse(&time.to_string()), Some(time));
    }
    strata_api::fuzzing::address(text);
});
