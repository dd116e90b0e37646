//! Each form's statement, as it is sent.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::store::form::{Choice, RECENT_ROWS, choose};
use crate::types::{EventId, Kind, PublicKey};

pub(crate) const NOW: Timestamp = 1_800_000_000;

pub(crate) fn hasher() -> Hasher {
    Hasher::new([1; 16], 64)
}

pub(crate) fn filter(json: &str) -> Filter {
    // A key is written as two digits.
    let long = |key: &str| format!("\"{}\"", key.repeat(32));
    let mut text = json.to_owned();
    for n in 0..40 {
        let short = format!("{n:02x}");
        text = text.replace(&format!("'{short}'"), &long(&short));
    }
    Filter::parse(&text).unwrap()
}

pub(crate) fn question(filter: &Filter) -> PlanQuestion<'_> {
    PlanQuestion { elements: 51, max_text_bytes: 1 << 20, ..PlanQuestion::of(filter, NOW) }
}

/// Every form with a filter that it answers.
pub(crate) fn forms() -> Vec<(&'static str, Form, Filter)> {
    let form = |filter: &Filter| match choose(filter) {
        Choice::Take(form) => form,
        Choice::Rarest(candidates) => candidates[0],
    };
    let cases = [
        ("ids", r#"{"ids":['01','02'],"kinds":[1]}"#),
        ("author_kind", r#"{"authors":['01'],"kinds":[1]}"#),
        ("authors_kinds", r#"{"authors":['01','02'],"kinds":[1,6]}"#),
        ("authors", r#"{"authors":['01','02'],"since":5}"#),
        ("tag", r##"{"#p":['01'],"kinds":[1,7]}"##),
        ("tags", r##"{"#e":['01','02']}"##),
        ("tag_and_tags_and_author", r##"{"#e":['01'],"#t":["x","y"],"authors":['01']}"##),
        ("kind", r#"{"kinds":[1],"until":9}"#),
        ("kinds", r#"{"kinds":[1,7]}"#),
        ("time", r#"{"since":1,"until":9}"#),
    ];
    let mut forms: Vec<_> = cases.map(|(name, json)| (name, filter(json))).map(|(n, f)| (n, form(&f), f)).into();
    forms.push(("recent", Form::Recent, filter(r#"{"authors":['01','02'],"kinds":[1,6]}"#)));
    forms
}

/// One clause a line.
fn lines(sql: &str) -> String {
    let mut text = sql.to_owned();
    for word in [" FROM ", " WHERE ", " AND ", " ORDER BY ", " CROSS JOIN ", " LEFT JOIN ", " UNION ALL ", " LIMIT "] {
        text = text.replace(word, &format!("\n{}", word.trim_start()));
    }
    text
}

/// Like [`question`], with as many of the newest events as the planner lets a probe read.
pub(crate) fn question_of(form: Form, filter: &Filter) -> PlanQuestion<'_> {
    PlanQuestion { rows: (form == Form::Recent).then_some(RECENT_ROWS), ..question(filter) }
}

#[test]
fn each_form_has_its_statement() {
    for (name, form, filter) in forms() {
        let statement = page(form, &question_of(form, &filter), &hasher());
        insta::assert_snapshot!(name, lines(&statement.sql));
    }
}

/// The rarest of the tags that the form does not walk is checked first, and hashed whole where that is less work.
#[test]
fn lengths_order_what_is_asked_of_a_row() {
    let filter = filter(r##"{"#e":['01'],"#p":['02'],"#t":["x"]}"##);
    let statement = |lengths: [usize; 3], walked| {
        let forms = [Form::Tag(0), Form::Tag(1), Form::Tag(2)];
        let lengths = Lengths::new(forms.into_iter().zip(lengths), 8_000);
        assert_eq!((lengths.rarest(&filter), lengths.all_long()), (Form::Tag(0), false));
        page(Form::Tag(0), &PlanQuestion { lengths: Some(&lengths), walked, ..question(&filter) }, &hasher())
    };
    let tag = |letter, value: &str| hasher().tag(letter, value).to_string();
    let (p, t) = (tag(b'p', &"02".repeat(32)), tag(b't', "x"));
    let p_before_t = |statement: &Statement| {
        let literals = statement.literals();
        literals.find(&p).unwrap() < literals.find(&t).unwrap()
    };
    let whole = statement([2_000, 8_000, 7_999], Some(9_000));
    insta::assert_snapshot!("tag_with_another_taken_whole", lines(&whole.sql));
    assert!(!p_before_t(&whole) && p_before_t(&statement([2_000, 3_000, 7_999], None)));
    let others = [
        ("all are walked", statement([2_000, 8_000, 7_999], Some(2_000)), true),
        ("too long for what is walked", statement([1_999, 8_000, 7_999], Some(9_000)), false),
        ("few are walked", statement([2_000, 8_000, 7_999], Some(1_000)), false),
        ("nobody knows how many", statement([2_000, 8_000, 7_999], None), false),
        ("too long to be counted", statement([2_000, 8_000, 8_000], Some(9_000)), false),
    ];
    for (case, statement, whole) in others {
        assert_eq!(statement.sql.contains(" IN (SELECT"), whole, "{case}: {}", statement.sql);
    }
}

#[test]
fn an_author_is_walked_rather_than_checked() {
    let rarest = |authors: u8, lengths: [usize; 2]| {
        let filter = Filter {
            authors: Some((0..authors).map(|n| PublicKey::from_bytes([n; 32])).collect()),
            ..filter(r##"{"#p":['02']}"##)
        };
        Lengths::new([Form::Tag(0), Form::Authors].into_iter().zip(lengths), 1_000).rarest(&filter)
    };
    assert_eq!(rarest(1, [100, 400]), Form::Authors);
    assert_eq!(rarest(1, [100, 404]), Form::Tag(0));
    assert_eq!(rarest(8, [100, 101]), Form::Tag(0));
    assert_eq!(rarest(8, [1_000, 1_000]), Form::Authors, "both are long");
}

/// A probe reads only the newest rows of the list, whose number is a parameter.
#[test]
fn a_first_look_is_bounded() {
    let filter = filter(r##"{"#e":['01'],"#p":['02']}"##);
    let probe = |rows| page(Form::Tag(0), &PlanQuestion { rows: Some(rows), ..question(&filter) }, &hasher());
    insta::assert_snapshot!("page_probe", lines(&probe(1_000).sql));
    assert!(probe(1_000).sql == probe(2_000).sql && probe(1_000).literals() != probe(2_000).literals());
}

#[test]
fn counting_and_lengths_have_their_statements() {
    let filters = [filter(r##"{"#e":['01','02'],"authors":['01']}"##), filter(r#"{"authors":['01']}"#)];
    let questions = [(Form::Tags(0), question(&filters[0])), (Form::Authors, question(&filters[1]))];
    insta::assert_snapshot!("count", lines(&count(&questions, &hasher()).sql));
    let candidates = [Form::Tags(0), Form::Authors];
    insta::assert_snapshot!("lengths", lines(&lengths(&candidates, &question(&filters[0]), &hasher(), 1_000).sql));
}

#[test]
fn rights_enter_before_the_limit() {
    let filter = filter(r##"{"#p":['01']}"##);
    let access = Access { authenticated: [PublicKey::from_bytes([3; 32])].into(), ..Access::default() };
    let statement = page(Form::Tag(0), &PlanQuestion { access: Some(&access), ..question(&filter) }, &hasher());
    insta::assert_snapshot!("readers", lines(&statement.sql));
    let nobody = Access::default();
    let statement = page(Form::Tag(0), &PlanQuestion { access: Some(&nobody), ..question(&filter) }, &hasher());
    assert!(statement.sql.contains("c.kind <> ALL(") && !statement.sql.contains("FROM event x"));
}

/// A connection finds its prepared statements again.
#[test]
fn the_text_does_not_depend_on_values() {
    let many = |count: u8| Filter {
        authors: Some((0..count).map(|n| PublicKey::from_bytes([n; 32])).collect()),
        kinds: Some([Kind(1), Kind(count.into())].into()),
        ..Filter::default()
    };
    let (few, more) = (many(2), many(200));
    let after = Key { created_at: 7, id: EventId::from_bytes([9; 32]) };
    let one = page(Form::AuthorsKinds, &question(&few), &hasher());
    let other = PlanQuestion { after: Some(after), elements: 501, now: 3, max_text_bytes: 0, ..question(&more) };
    let other = page(Form::AuthorsKinds, &other, &hasher());
    assert_eq!(one.sql, other.sql);
    assert_ne!(one.literals(), other.literals());
}

/// The next page begins right after the event that ended the last one, unless the filter's own `until` is earlier.
#[test]
fn after_narrows_the_window() {
    let filter = filter(r#"{"until":5}"#);
    let after = |created_at| Some(Key { created_at, id: EventId::from_bytes([0xab; 32]) });
    let literals = |after| page(Form::Time, &PlanQuestion { after, ..question(&filter) }, &hasher()).literals();
    assert!(literals(after(4)).starts_with(&format!("0, 4, '\\x{}'", "ab".repeat(32))));
    assert!(literals(after(6)).starts_with("0, 5, '\\x'"));
    assert!(literals(None).starts_with("0, 5, '\\x'"));
}
