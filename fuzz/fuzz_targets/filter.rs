//! Whatever the bytes: reading a filter never panics, and a canonical filter reads as itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use relay::types::Filter;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Filter::parse(text) {
        Ok(filter) => {
            let json = filter.to_json();
            let again = Filter::parse(&json).expect("a canonical text is a filter");
            assert_eq!(filter, again);
            assert_eq!(json, again.to_json());
        }
        Err(error) => assert!(error.to_string().len() < 500),
    }
});
