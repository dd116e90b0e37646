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

/// What no event can match is one filter, whatever it was written as; nothing of it is an empty list, which a store or
/// a matcher might take for no condition.
#[test]
fn what_no_event_can_match_is_one_filter() {
    for json in [
        r#"{"ids":[]}"#,
        r#"{"authors":[],"kinds":[1]}"#,
        r#"{"kinds":[]}"#,
        r##"{"#e":[]}"##,
        r##"{"#a":[],"limit":7}"##,
        r##"{"#t":["x"],"#d":[]}"##,
        r#"{"kinds":[65536]}"#,
        r#"{"kinds":[99999],"limit":0}"#,
        r#"{"kinds":[9007199254740992,18446744073709551615]}"#,
        r#"{"since":2,"until":1}"#,
        r#"{"since":9223372036854775808}"#,
    ] {
        let filter = Filter::parse(json).unwrap();
        assert!(filter.is_impossible(), "{json}");
        assert_eq!(filter, Filter::nothing(), "{json}");
    }
    for empty in [
        Filter { ids: Some(Box::default()), ..Filter::default() },
        Filter { authors: Some(Box::default()), ..Filter::default() },
        Filter { kinds: Some(Box::default()), ..Filter::default() },
        Filter { tags: [TagFilter { letter: b't', values: Box::default() }].into(), ..Filter::default() },
    ] {
        assert!(empty.is_impossible(), "also where it was not read: {empty:?}");
    }
    assert!(!Filter::default().is_impossible());
}

#[test]
fn what_no_event_can_have_is_dropped_beside_what_one_can() {
    let kinds = |json: &str| Filter::parse(json).unwrap().kinds;
    assert_eq!(kinds(r#"{"kinds":[99999,1,65536]}"#).as_deref(), Some(&[Kind(1)][..]));
    let all = Filter::parse(r#"{"until":18446744073709551615}"#).unwrap();
    assert_eq!(all, Filter::default(), "every event is earlier");
}

#[test]
fn what_is_not_a_filter_is_invalid_in_words_for_a_person() {
    let upper = A.to_uppercase();
    let ids = "ids must be a list of ids, each 64 lowercase hex characters";
    let authors = "authors must be a list of public keys, each 64 lowercase hex characters";
    let e_tags = "#e must be a list of ids, each 64 lowercase hex characters";
    let p_tags = "#p must be a list of public keys, each 64 lowercase hex characters";
    let kinds = "kinds must be integers from 0 to 65535";
    let (since, until) = ("since must be an integer, not negative", "until must be an integer, not negative");
    let limit = "limit must be an integer, not negative";
    let cases = [
        ("", "the text ends too early to be JSON"),
        ("{", "the text ends too early to be JSON"),
        (r#"{"ids":["ab"#, "the text ends too early to be JSON"),
        ("[]", "a filter must be an object"),
        ("null", "a filter must be an object"),
        ("7", "a filter must be an object"),
        ("\"text\"", "a filter must be an object"),
        ("{} {}", "the text is not JSON at line 1 column 4: trailing characters"),
        (r#"{"since":1,}"#, "the text is not JSON at line 1 column 12: trailing comma"),
        (r#"{"ids":["abcd"]}"#, ids),
        (&format!(r#"{{"ids":["{A}a"]}}"#), ids),
        (&format!(r#"{{"ids":["{upper}"]}}"#), ids),
        (&format!(r#"{{"ids":"{A}"}}"#), ids),
        (r#"{"ids":[null]}"#, ids),
        (r#"{"authors":["npub1drvpzev3syqt0kjrls50050uzf25gehpz9vgdw08hvex7e0vgfeq0eseet"]}"#, authors),
        (r#"{"authors":{"0":1}}"#, authors),
        (&format!(r##"{{"#p":["{upper}"]}}"##), p_tags),
        (r##"{"#p":true}"##, p_tags),
        (r##"{"#e":["abcd"]}"##, e_tags),
        (r##"{"#e":[[]]}"##, e_tags),
        (r##"{"#t":[1]}"##, "#t must be a list of strings"),
        (r##"{"#t":"x"}"##, "#t must be a list of strings"),
        (r##"{"#a":null}"##, "#a must be a list of strings"),
        (r##"{"#d":[{}]}"##, "#d must be a list of strings"),
        (r#"{"kinds":[1.0]}"#, kinds),
        (r#"{"kinds":[1e2]}"#, kinds),
        (r#"{"kinds":[-1]}"#, kinds),
        (r#"{"kinds":["1"]}"#, kinds),
        (r#"{"kinds":[true]}"#, kinds),
        (r#"{"kinds":[[1]]}"#, kinds),
        (r#"{"kinds":[18446744073709551616]}"#, kinds),
        (r#"{"kinds":[1e999]}"#, "a number is too large"),
        (r#"{"kinds":1}"#, "kinds must be a list of integers from 0 to 65535"),
        (r#"{"kinds":"1"}"#, "kinds must be a list of integers from 0 to 65535"),
        (r#"{"since":-1}"#, since),
        (r#"{"since":1.5}"#, since),
        (r#"{"since":null}"#, since),
        (r#"{"since":"1"}"#, since),
        (r#"{"until":false}"#, until),
        (r#"{"until":[1]}"#, until),
        (r#"{"limit":-1}"#, limit),
        (r#"{"limit":-0}"#, limit),
        (r#"{"limit":1.0}"#, limit),
        (r#"{"limit":"1"}"#, limit),
        (r#"{"limit":{}}"#, limit),
        (r#"{"limit":18446744073709551616}"#, limit),
        (r#"{"limit":1,"limit":1}"#, "limit is there twice"),
        (&format!(r#"{{"ids":["{A}"],"ids":["{A}"]}}"#), "ids is there twice"),
        (r##"{"#t":["a"],"#\u0074":["a"]}"##, "#t is there twice"),
    ];
    for (json, expected) in cases {
        assert_eq!(Filter::parse(json), Err(FilterError::Invalid(expected.to_owned())), "{json}");
    }
    let Err(FilterError::Invalid(words)) = Filter::parse(r##"{"#t":["\ud800"]}"##) else { panic!("accepted") };
    assert!(words.starts_with("the text is not JSON at line 1 column "), "{words}");
}

#[test]
fn an_unknown_key_is_unsupported_and_named() {
    for key in ["search", "&t", "#emoji", "#", "#1", "#é", "Ids", "id", ""] {
        let json = format!(r#"{{"kinds":[1],"{key}":["x"]}}"#);
        let words = format!("unknown filter key `{key}`");
        assert_eq!(FilterSeed::read(&json, 5, false), Err(FilterError::Unsupported(words)));
    }
    let Err(FilterError::Unsupported(words)) = Filter::parse(&format!(r#"{{"{}":1}}"#, "é".repeat(100_000))) else {
        panic!("accepted")
    };
    assert!(words.len() < 100);
}

#[test]
fn each_list_of_a_filter_is_bounded() {
    let json = r##"{"kinds":[1,2],"#t":["a","b","c"]}"##;
    assert!(FilterSeed::read(json, 3, false).is_ok());
    let Err(FilterError::Invalid(words)) = FilterSeed::read(json, 2, false) else { panic!("accepted") };
    assert!(words.contains("more than 2 values"), "{words}");
}

#[test]
fn an_error_repeats_nothing_of_a_value() {
    let json = format!(r#"{{"authors":["{}"]}}"#, "é".repeat(500_000));
    let Err(FilterError::Invalid(words)) = Filter::parse(&json) else { panic!("accepted") };
    assert_eq!(words, "authors must be a list of public keys, each 64 lowercase hex characters");
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
