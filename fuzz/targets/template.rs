//! Go templates, carried out on a value.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strata_template::{Missing, Template};

fuzz_target!(|text: &str| {
    let value = serde_json::json!({"A": "text", "B": [1, 2.5, null], "C": {"D": true}});
    if let Ok(template) = Template::parse(text) {
        let _ = template.render_with(&value, Missing::NoValue);
    }
});
