use super::*;

const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

#[test]
fn equal_questions_are_equal_values() {
    let one = format!(
        r##"{{"#t":["b","a","b"],"#T":["x"],"kinds":[7,1,7],"authors":["{B}","{A}","{B}"],"ids":["{A}"],"limit":5,"since":1,"until":2}}"##
    );
    let other = format!(
        r##" {{ "until":2,"since":1,"limit":5,"ids":["{A}"],"authors":["{A}","{B}"],"kinds":[1,7],"#T":["x"],"#t":["\u0061","b"] }} "##
    );
    let filter = Filter::parse(&one).unwrap();
    assert_eq!(filter, Filter::parse(&other).unwrap());
    assert_eq!(
        filter.to_json(),
        format!(
            r##"{{"ids":["{A}"],"authors":["{A}","{B}"],"kinds":[1,7],"#T":["x"],"#t":["a","b"],"since":1,"until":2,"limit":5}}"##
        )
    );
    assert_eq!(Filter::parse(&filter.to_json()).unwrap(), filter);
}

#[test]
fn the_empty_filter_and_the_edges_are_fine() {
    assert_eq!(Filter::parse("{}").unwrap(), Filter::default());
    let filter = Filter::parse(r##"{"kinds":[0,65535],"since":0,"until":9223372036854775807,"#t":[""]}"##).unwrap();
    assert_eq!(filter.kinds.as_deref(), Some(&[Kind(0), Kind(65535)][..]));
    assert_eq!((filter.since, filter.until), (Some(0), Some(i64::MAX)));
    assert_eq!(&*filter.tags[0].values[0], "");
}

#[test]
fn a_great_limit_is_taken_and_clamped() {
    for (written, limit) in [("0", 0), ("70000", 70_000), ("18446744073709551615", u32::MAX)] {
        assert_eq!(Filter::parse(&format!(r#"{{"limit":{written}}}"#)).unwrap().limit, Some(limit));
    }
}

#[test]
fn what_is_not_a_filter_is_invalid_and_the_words_name_the_key() {
    let upper = A.to_uppercase();
    let cases = [
        ("", "EOF"),
        ("[]", "filter object"),
        ("null", "filter object"),
        ("{} {}", "trailing"),
        (r#"{"ids":[]}"#, "`ids`"),
        (r#"{"authors":[]}"#, "`authors`"),
        (r#"{"kinds":[]}"#, "`kinds`"),
        (r##"{"#e":[]}"##, "`#e`"),
        (r##"{"#t":[]}"##, "tag filter"),
        (r#"{"ids":["abcd"]}"#, "`ids`"),
        (&format!(r#"{{"ids":["{A}a"]}}"#), "`ids`"),
        (&format!(r#"{{"ids":["{upper}"]}}"#), "`ids`"),
        (&format!(r#"{{"ids":"{A}"}}"#), "`ids`"),
        (r#"{"authors":["npub1drvpzev3syqt0kjrls50050uzf25gehpz9vgdw08hvex7e0vgfeq0eseet"]}"#, "`authors`"),
        (&format!(r##"{{"#p":["{upper}"]}}"##), "`#p`"),
        (r##"{"#e":["abcd"]}"##, "`#e`"),
        (r##"{"#t":[1]}"##, "tag filter"),
        (r##"{"#t":"x"}"##, "tag filter"),
        (r##"{"#t":["\ud800"]}"##, "hex escape"),
        (r#"{"kinds":[65536]}"#, "`kinds`"),
        (r#"{"kinds":[1.0]}"#, "`kinds`"),
        (r#"{"kinds":[-1]}"#, "`kinds`"),
        (r#"{"kinds":["1"]}"#, "`kinds`"),
        (r#"{"kinds":1}"#, "`kinds`"),
        (r#"{"since":-1}"#, "`since`"),
        (r#"{"since":1.5}"#, "`since`"),
        (r#"{"since":null}"#, "`since`"),
        (r#"{"until":9223372036854775808}"#, "`until`"),
        (r#"{"limit":-1}"#, "`limit`"),
        (r#"{"limit":-0}"#, "`limit`"),
        (r#"{"limit":1.0}"#, "`limit`"),
        (r#"{"limit":"1"}"#, "`limit`"),
        (r#"{"limit":18446744073709551616}"#, "`limit`"),
        (r#"{"limit":1,"limit":1}"#, "`limit`"),
        (r##"{"#t":["a"],"#\u0074":["a"]}"##, "`#t`"),
        (r#"{"since":1,}"#, "trailing comma"),
    ];
    for (json, word) in cases {
        match Filter::parse(json) {
            Err(FilterError::Invalid(words)) => assert!(words.contains(word), "{json}: {words}"),
            other => panic!("{json}: {other:?}"),
        }
    }
}

#[test]
fn an_unknown_key_is_unsupported_and_named() {
    for key in ["search", "&t", "#emoji", "#", "#1", "#é", "Ids", "id", ""] {
        let json = format!(r#"{{"kinds":[1],"{key}":["x"]}}"#);
        let words = format!("unknown filter key `{key}`");
        assert_eq!(Filter::parse(&json), Err(FilterError::Unsupported(words)));
    }
    let Err(FilterError::Unsupported(words)) = Filter::parse(&format!(r#"{{"{}":1}}"#, "é".repeat(100_000))) else {
        panic!("accepted")
    };
    assert!(words.len() < 100);
}

#[test]
fn each_list_of_a_filter_is_bounded() {
    let json = r##"{"kinds":[1,2],"#t":["a","b","c"]}"##;
    assert!(FilterSeed::read(json, 3).is_ok());
    let Err(FilterError::Invalid(words)) = FilterSeed::read(json, 2) else { panic!("accepted") };
    assert!(words.contains("more than 2 values"), "{words}");
}

#[test]
fn an_error_repeats_little_of_what_the_client_wrote() {
    let json = format!(r#"{{"authors":["{}"]}}"#, "é".repeat(500_000));
    let Err(FilterError::Invalid(words)) = Filter::parse(&json) else { panic!("accepted") };
    assert!(words.len() < 300 && words.contains("`authors`"), "{words}");
}

proptest::proptest! {
    /// Lists in any order, with doubles and with common beginnings, come out sorted and single.
    #[test]
    fn lists_are_canonical(numbers in proptest::collection::vec((0..3u8, 0..3u8), 1..30), limit: u64) {
        let key = |(first, last): &(u8, u8)| {
            let mut bytes = [*first; 32];
            bytes[31] = *last;
            PublicKey::from_bytes(bytes)
        };
        let wanted: std::collections::BTreeSet<PublicKey> = numbers.iter().map(key).collect();
        let written: Vec<String> = numbers.iter().map(|pair| key(pair).to_hex()).collect();
        let filter = Filter::parse(&format!(r##"{{"authors":{written:?},"#p":{written:?},"limit":{limit}}}"##)).unwrap();
        proptest::prop_assert!(filter.authors.iter().flatten().eq(wanted.iter()));
        proptest::prop_assert!(filter.tags[0].values.iter().map(|value| value.to_string()).eq(wanted.iter().map(PublicKey::to_hex)));
        proptest::prop_assert_eq!(Filter::parse(&filter.to_json()).unwrap(), filter);
    }
}
