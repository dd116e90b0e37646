//! Each form's statement, as it is sent.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::store::form::{Choice, choose};
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

pub(crate) fn question(filter: &Filter) -> Question<'_> {
    Question { filter, access: None, now: NOW, after: None, elements: 51, max_text_bytes: 1 << 20 }
}

/// Every form with a filter that it answers.
pub(crate) fn forms() -> Vec<(&'static str, Form, Filter)> {
    let form = |filter: &Filter| match choose(filter) {
        Choice::Take(form) => form,
        Choice::Rarest(rivals) => rivals[0],
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

#[test]
fn each_form_has_its_statement() {
    for (name, form, filter) in forms() {
        let statement = page(form, &question(&filter), &hasher());
        insta::assert_snapshot!(name, lines(&statement.sql));
    }
}

#[test]
fn counting_and_lengths_have_their_statements() {
    let filters = [filter(r##"{"#e":['01','02'],"authors":['01']}"##), filter(r#"{"authors":['01']}"#)];
    let questions = [(Form::Tags(0), question(&filters[0])), (Form::Authors, question(&filters[1]))];
    insta::assert_snapshot!("count", lines(&count(&questions, &hasher()).sql));
    let rivals = [Form::Tags(0), Form::Authors];
    insta::assert_snapshot!("lengths", lines(&lengths(&rivals, &question(&filters[0]), &hasher()).sql));
}

#[test]
fn rights_enter_before_the_limit() {
    let filter = filter(r##"{"#p":['01']}"##);
    let access = Access { authenticated: [PublicKey::from_bytes([3; 32])].into(), ..Access::default() };
    let statement = page(Form::Tag(0), &Question { access: Some(&access), ..question(&filter) }, &hasher());
    insta::assert_snapshot!("readers", lines(&statement.sql));
    let nobody = Access::default();
    let statement = page(Form::Tag(0), &Question { access: Some(&nobody), ..question(&filter) }, &hasher());
    assert!(statement.sql.contains("c.kind <> ALL(") && !statement.sql.contains("FROM event x"));
}

/// A connection's prepared statements are found again.
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
    let other = Question { after: Some(after), elements: 501, now: 3, max_text_bytes: 0, ..question(&more) };
    let other = page(Form::AuthorsKinds, &other, &hasher());
    assert_eq!(one.sql, other.sql);
    assert_ne!(one.literals(), other.literals());
}

/// Where a page ends at an event, the next begins right after it, unless the filter's own `until` is earlier.
#[test]
fn after_narrows_the_window() {
    let filter = filter(r#"{"until":5}"#);
    let after = |created_at| Some(Key { created_at, id: EventId::from_bytes([0xab; 32]) });
    let literals = |after| page(Form::Time, &Question { after, ..question(&filter) }, &hasher()).literals();
    assert!(literals(after(4)).starts_with(&format!("0, 4, '\\x{}'", "ab".repeat(32))));
    assert!(literals(after(6)).starts_with("0, 5, '\\x'"));
    assert!(literals(None).starts_with("0, 5, '\\x'"));
}
