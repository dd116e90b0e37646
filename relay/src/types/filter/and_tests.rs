//! `&x` conditions (NIP-91): their canonical form, and which events they select, compared with the proposal.

use super::parse::FilterSeed;
use super::*;
use proptest::prelude::*;

const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

fn parse(json: &str) -> Filter {
    Filter::parse(json).unwrap()
}

#[test]
fn questions_for_the_same_are_equal_values() {
    for (one, other) in [
        (r##"{"&t":["b","a","b"]}"##, r##"{"&t":["a","b"]}"##),
        // With a single value both conditions mean the same.
        (r##"{"&t":["a"]}"##, r##"{"#t":["a"]}"##),
        (r##"{"&t":["a"],"#t":["b"]}"##, r##"{"&t":["a","b"]}"##),
        // Values of `&t` are no choice of `#t`; what clients add for relays that know no `&t` says nothing more.
        (r##"{"&t":["a","b"],"#t":["b","a"]}"##, r##"{"&t":["a","b"]}"##),
        (r##"{"&t":["a","b"],"#t":["a","b","c","d"]}"##, r##"{"#t":["d","c"],"&t":["b","a"]}"##),
    ] {
        assert_eq!(parse(one), parse(other), "{one} {other}");
    }

    for json in [
        r##"{"&t":["a","b"]}"##,
        r##"{"&T":["x","y"],"&t":["a","b"],"#t":["c","d"]}"##,
        r##"{"#d":[""],"&t":["a"],"#t":["c","d"],"limit":3}"##,
    ] {
        let filter = parse(json);
        assert_eq!(parse(&filter.to_json()), filter, "{}", filter.to_json());
    }

    assert_eq!(parse(r##"{"#t":["a","c","d","b"],"&t":["b","a"]}"##).to_json(), r##"{"&t":["a","b"],"#t":["c","d"]}"##);
    let (all, any) = (parse(r##"{"&t":["a","b"]}"##), parse(r##"{"#t":["a","b"]}"##));
    assert!(all != any && all.to_json() != any.to_json(), "control: and is not or");
}

#[test]
fn an_empty_list_never_matches() {
    for json in
        [r##"{"&t":[]}"##, r##"{"&t":[],"#t":["a"]}"##, r##"{"&t":["a"],"#t":[]}"##, r##"{"&e":[],"kinds":[1]}"##]
    {
        assert_eq!(parse(json), Filter::nothing(), "{json}");
    }
}

#[test]
fn what_is_wrong_is_refused_with_its_name() {
    let many: Vec<String> = (0..17).map(|n| n.to_string()).collect();
    for (json, words) in [
        (r##"{"&e":["x"]}"##.to_owned(), "&e must be a list of ids, each 64 lowercase hex characters"),
        (r##"{"&p":["x"]}"##.to_owned(), "&p must be a list of public keys, each 64 lowercase hex characters"),
        (r##"{"&t":[1]}"##.to_owned(), "&t must be a list of strings"),
        (r##"{"&t":["a"],"&t":["b"]}"##.to_owned(), "&t is there twice"),
        (format!(r##"{{"&t":{many:?}}}"##), "the & lists of one filter may have at most 16 values"),
        (
            format!(r##"{{"&t":{:?},"&T":{:?}}}"##, &many[..9], &many[..8]),
            "the & lists of one filter may have at most 16 values",
        ),
    ] {
        assert_eq!(Filter::parse(&json), Err(FilterError::Invalid(words.to_owned())), "{json}");
    }

    assert_eq!(parse(&format!(r##"{{"&t":{:?}}}"##, &many[..16])).tags.len(), 16);
    assert_eq!(parse(&format!(r##"{{"&p":["{A}","{B}"],"&e":["{A}"]}}"##)).tags.len(), 3);
    let Err(FilterError::Invalid(words)) = FilterSeed::read(r##"{"&t":["a","b","c"]}"##, 2, true) else {
        panic!("taken")
    };
    assert!(words.contains("more than 2 values"), "{words}");
    for key in ["&", "&1", "&tt", "&é", "&&"] {
        let unknown = FilterError::Unsupported(format!("unknown filter key `{key}`"));
        assert_eq!(Filter::parse(&format!(r#"{{"{key}":["x"]}}"#)), Err(unknown));
    }
}

/// The proposal, word for word: the event has all values of `&x`, and one of those of `#x` that are not in `&x`, where
/// there are any.
fn naive(has: &[String], all: &[String], any: &[String]) -> bool {
    let choices: Vec<&String> = any.iter().filter(|value| !all.contains(value)).collect();
    all.iter().all(|value| has.contains(value))
        && (choices.is_empty() || choices.iter().any(|value| has.contains(value)))
}

fn values() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec("[a-d]", 1..5)
}

fn tagged(has: &[String]) -> Event {
    let tags: Vec<Vec<String>> = has.iter().map(|value| vec!["t".to_owned(), value.clone()]).collect();
    Event::build(PublicKey::from_bytes([1; 32]), 1, Kind(1), &tags, "", |_| [0; 64])
}

proptest! {
    #[test]
    fn a_filter_selects_what_the_proposal_says(has in values(), all in values(), any in proptest::option::of(values())) {
        let beside = any.as_ref().map_or_else(String::new, |any| format!(r##","#t":{any:?}"##));
        let filter = parse(&format!(r##"{{"&t":{all:?}{beside}}}"##));
        let any = any.unwrap_or_default();
        prop_assert_eq!(filter.matches(&tagged(&has)), naive(&has, &all, &any));
        prop_assert_eq!(parse(&filter.to_json()), filter);
    }
}

#[test]
fn control_read_as_a_choice_it_selects_more() {
    let has = ["a".to_owned()];
    let both = ["a".to_owned(), "b".to_owned()];
    assert!(!naive(&has, &both, &[]) && !parse(r##"{"&t":["a","b"]}"##).matches(&tagged(&has)));
    assert!(parse(r##"{"#t":["a","b"]}"##).matches(&tagged(&has)));
}
