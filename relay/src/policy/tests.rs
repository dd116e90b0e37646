use super::{MALFORMED_EXPIRATION, OwnUrls, RelayUrl, Rules, check, check_auth, check_read};
use crate::types::{Access, Event, Filter, Kind, PrivateKinds, PublicKey, Refusal, Timestamp};
use smallvec::smallvec;

const NOW: Timestamp = 1_700_000_000;
const ALICE: PublicKey = PublicKey::from_bytes([0xaa; 32]);
const BOB: PublicKey = PublicKey::from_bytes([0xbb; 32]);

fn event_at(at: Timestamp, kind: u16, tags: &[&[&str]], content: &str) -> Event {
    let tags: Vec<_> = tags.iter().map(|tag| tag.iter().map(ToString::to_string).collect()).collect();
    Event::build(ALICE, at, Kind(kind), &tags, content, |_| [0; 64])
}

fn event(kind: u16, tags: &[&[&str]], content: &str) -> Event {
    event_at(NOW, kind, tags, content)
}

fn note() -> Event {
    event(1, &[], "hello")
}

fn with_rules(event: &Event, rules: Rules) -> Result<(), Refusal> {
    check(event, &rules, &Access::default(), NOW)
}

fn by_default(event: &Event) -> Result<(), Refusal> {
    with_rules(event, Rules::default())
}

fn authenticated(key: PublicKey) -> Access {
    Access { authenticated: smallvec![key], ..Access::default() }
}

#[test]
fn too_many_tags() {
    let rules = Rules { max_tags: 2, ..Rules::default() };
    let two: [&[&str]; 2] = [&["title", "x"], &["t", "y"]];
    assert_eq!(with_rules(&event(1, &two, ""), rules.clone()), Ok(()));
    let three: [&[&str]; 3] = [&["title", "x"], &["t", "y"], &["t", "z"]];
    assert_eq!(with_rules(&event(1, &three, ""), rules), Err(Refusal::TooManyTags { max: 2 }));
}

#[test]
fn a_content_is_measured_in_characters() {
    let rules = Rules { max_content_chars: Some(3), ..Rules::default() };
    assert_eq!(with_rules(&event(1, &[], "äöü"), rules.clone()), Ok(()));
    assert_eq!(with_rules(&event(1, &[], "äöü!"), rules), Err(Refusal::ContentTooLong { max_chars: 3 }));
}

#[test]
fn too_old() {
    let rules = Rules { max_age_seconds: Some(60), ..Rules::default() };
    assert_eq!(with_rules(&event_at(NOW - 60, 1, &[], ""), rules.clone()), Ok(()));
    let refusal = Err(Refusal::TooOld { max_age_seconds: 60 });
    assert_eq!(with_rules(&event_at(NOW - 61, 1, &[], ""), rules), refusal);
    assert_eq!(by_default(&event_at(0, 1, &[], "")), Ok(()), "by default any past will do");
    let any_age = Rules { max_age_seconds: Some(u64::MAX), ..Rules::default() };
    assert_eq!(with_rules(&event_at(0, 1, &[], ""), any_age), Ok(()));
}

#[test]
fn an_ephemeral_event_is_of_now() {
    assert_eq!(by_default(&event_at(NOW - 300, 20_001, &[], "")), Ok(()));
    assert_eq!(by_default(&event_at(NOW - 301, 20_001, &[], "")), Err(Refusal::TooOld { max_age_seconds: 300 }));
    let any_age = Rules { max_ephemeral_age_seconds: None, ..Rules::default() };
    assert_eq!(with_rules(&event_at(0, 20_001, &[], ""), any_age), Ok(()));
}

#[test]
fn too_new() {
    assert_eq!(by_default(&event_at(NOW + 900, 1, &[], "")), Ok(()));
    assert_eq!(by_default(&event_at(NOW + 901, 1, &[], "")), Err(Refusal::TooNew { max_ahead_seconds: 900 }));
    let any_time = Rules { max_ahead_seconds: u64::MAX, ..Rules::default() };
    assert_eq!(with_rules(&event_at(i64::MAX, 1, &[], ""), any_time), Ok(()));
}

#[test]
fn expired() {
    let expires = |at: Timestamp| event(1, &[&["expiration", &at.to_string()]], "");
    assert_eq!(by_default(&expires(NOW + 1)), Ok(()));
    assert_eq!(by_default(&expires(NOW)), Err(Refusal::Expired { at: NOW }));
    let said = |value| by_default(&event(1, &[&["expiration", value]], ""));
    assert_eq!(said(""), Ok(()), "as if there were none");
    for value in ["-1", "1.5", " 5 ", "abc", "9223372036854775808"] {
        assert_eq!(said(value), Err(Refusal::Invalid(MALFORMED_EXPIRATION.to_owned())), "{value}");
    }
}

/// Mines until the id has exactly `bits` leading zero bits.
fn mined(bits: u32, committed: Option<&str>) -> Event {
    (0..)
        .map(|nonce: u32| {
            let nonce = nonce.to_string();
            let tag: Vec<&str> = ["nonce", &nonce].into_iter().chain(committed).collect();
            event(1, &[&tag], "")
        })
        .find(|event| {
            let id = event.id();
            u32::from_be_bytes([id.as_bytes()[0], id.as_bytes()[1], id.as_bytes()[2], id.as_bytes()[3]]).leading_zeros()
                == bits
        })
        .unwrap()
}

#[test]
fn proof_of_work_counts_as_far_as_it_was_committed_to() {
    let rules = Rules { min_pow_bits: 9, ..Rules::default() };
    let found = |found_bits| Err(Refusal::ProofOfWork { min_bits: 9, found_bits });
    assert_eq!(with_rules(&mined(9, Some("9")), rules.clone()), Ok(()));
    assert_eq!(with_rules(&mined(10, Some("30")), rules.clone()), Ok(()), "10 of the 30 intended are enough here");
    assert_eq!(with_rules(&mined(8, Some("9")), rules.clone()), found(8), "not done");
    assert_eq!(with_rules(&mined(9, Some("8")), rules.clone()), found(8), "luck");
    assert_eq!(with_rules(&mined(9, None), rules), found(0), "luck without a promise");
    assert_eq!(by_default(&mined(0, None)), Ok(()), "nothing is asked for by default");
}

#[test]
fn lists_of_authors() {
    let allowed = |key| Rules { allowed_authors: Some([key].into()), ..Rules::default() };
    assert_eq!(with_rules(&note(), allowed(ALICE)), Ok(()));
    assert_eq!(with_rules(&note(), allowed(BOB)), Err(Refusal::AuthorBlocked));
    let denied = |key| Rules { denied_authors: [key].into(), ..Rules::default() };
    assert_eq!(with_rules(&note(), denied(BOB)), Ok(()));
    assert_eq!(with_rules(&note(), denied(ALICE)), Err(Refusal::AuthorBlocked));
    let both = Rules { allowed_authors: Some([ALICE].into()), denied_authors: [ALICE].into(), ..Rules::default() };
    assert_eq!(with_rules(&note(), both), Err(Refusal::AuthorBlocked), "denial wins");
}

#[test]
fn a_gift_wrap_is_let_in_for_its_recipient() {
    let rules = Rules { allowed_authors: Some([BOB].into()), ..Rules::default() };
    let wrap = |kind, recipient: PublicKey| event(kind, &[&["p", &recipient.to_hex()]], "");
    assert_eq!(with_rules(&wrap(1059, BOB), rules.clone()), Ok(()));
    assert_eq!(with_rules(&wrap(21_059, BOB), rules.clone()), Ok(()));
    assert_eq!(with_rules(&wrap(1059, ALICE), rules.clone()), Err(Refusal::AuthorBlocked));
    assert_eq!(
        with_rules(&wrap(1, BOB), rules),
        Err(Refusal::AuthorBlocked),
        "a note that names Bob is no gift to him"
    );
}

#[test]
fn a_gift_wrap_may_ask_for_authentication() {
    let rules = Rules { auth_to_write_gift_wraps: true, ..Rules::default() };
    let wrap = event(1059, &[&["p", &BOB.to_hex()]], "");
    assert_eq!(with_rules(&wrap, rules.clone()), Err(Refusal::WriteNeedsAuthentication));
    assert_eq!(check(&wrap, &rules, &authenticated(BOB), NOW), Ok(()), "anyone's will do: the author is a throw-away");
    assert_eq!(with_rules(&note(), rules), Ok(()));
}

#[test]
fn lists_of_kinds() {
    let allowed = |kind| Rules { allowed_kinds: Some([Kind(kind)].into()), ..Rules::default() };
    assert_eq!(with_rules(&note(), allowed(1)), Ok(()));
    assert_eq!(with_rules(&note(), allowed(7)), Err(Refusal::KindBlocked(Kind(1))));
    let denied = |kind| Rules { denied_kinds: [Kind(kind)].into(), ..Rules::default() };
    assert_eq!(with_rules(&note(), denied(7)), Ok(()));
    assert_eq!(with_rules(&note(), denied(1)), Err(Refusal::KindBlocked(Kind(1))));
}

#[test]
fn an_authentication_is_no_event() {
    assert_eq!(by_default(&event(22_241, &[], "")), Ok(()));
    assert_eq!(by_default(&event(22_242, &[], "")), Err(Refusal::AuthenticationAsEvent));
}

#[test]
fn writing_may_ask_for_authentication() {
    let rules = Rules { auth_to_write: true, ..Rules::default() };
    assert_eq!(with_rules(&note(), rules.clone()), Err(Refusal::WriteNeedsAuthentication));
    assert_eq!(check(&note(), &rules, &authenticated(BOB), NOW), Ok(()), "Bob may hand in Alice's note");
}

#[test]
fn a_protected_event_comes_from_its_author_only() {
    let protected = event(1, &[&["-"]], "");
    let check = |access: &Access| check(&protected, &Rules::default(), access, NOW);
    assert_eq!(check(&authenticated(ALICE)), Ok(()));
    assert_eq!(check(&authenticated(BOB)), Err(Refusal::ProtectedNotAuthor));
    assert_eq!(check(&Access::default()), Err(Refusal::ProtectedNeedsAuthentication));
    let both = Access { authenticated: smallvec![BOB, ALICE], ..Access::default() };
    assert_eq!(check(&both), Ok(()), "each of a connection's keys counts");
}

#[test]
fn a_repost_does_not_carry_a_protected_event_along() {
    let inner = |tags: &[&[&str]]| event(1, tags, "inner").text().to_string();
    let protected = inner(&[&["t", "x"], &["-"]]);
    for kind in [6, 16] {
        assert_eq!(by_default(&event(kind, &[], &protected)), Err(Refusal::ProtectedEmbedded));
        assert_eq!(by_default(&event(kind, &[], &inner(&[&["t", "-"]]))), Ok(()), "a value is no tag");
        assert_eq!(by_default(&event(kind, &[], "")), Ok(()));
        assert_eq!(by_default(&event(kind, &[], "look: [\"-\"]")), Ok(()), "no event");
    }
    let escaped = protected.replace("\"-\"", "\"\\u002d\"");
    assert_eq!(by_default(&event(6, &[], &escaped)), Err(Refusal::ProtectedEmbedded));
    for (tags, wanted) in [
        // Of a key that comes twice clients take the last; a tag that is none hides no other.
        (r#""tags":[],"tags":[["-"]]"#, Err(Refusal::ProtectedEmbedded)),
        (r#""tags":[["-"]],"tags":[]"#, Ok(())),
        (r#""tags":[7,["-"]]"#, Err(Refusal::ProtectedEmbedded)),
        // What other readers take.
        (r#""tags":[["-"]],"x":1e999"#, Err(Refusal::ProtectedEmbedded)),
        (r#""tags":[["\u002d"]],"x":"\ud800""#, Err(Refusal::ProtectedEmbedded)),
        (r#""tags":[],"x":1e999"#, Ok(())),
    ] {
        assert_eq!(by_default(&event(6, &[], &format!("{{{tags}}}"))), wanted, "{tags}");
    }
    assert_eq!(by_default(&event(1, &[], &protected)), Ok(()), "only a repost embeds");
}

fn asks_kinds(kinds: &[u16]) -> Filter {
    Filter { kinds: Some(kinds.iter().map(|kind| Kind(*kind)).collect()), ..Filter::default() }
}

#[test]
fn reading_may_ask_for_authentication() {
    let rules = Rules { auth_to_read: true, ..Rules::default() };
    let notes = [asks_kinds(&[1])];
    assert_eq!(check_read(&notes, &rules, &Access::default()), Err(Refusal::ReadNeedsAuthentication));
    assert_eq!(check_read(&notes, &rules, &authenticated(BOB)), Ok(()));
}

#[test]
fn private_kinds_ask_for_authentication_where_nothing_else_is_asked() {
    let check = |asked: &[&[u16]], access: &Access| {
        let filters: Vec<Filter> = asked.iter().map(|kinds| asks_kinds(kinds)).collect();
        check_read(&filters, &Rules::default(), access)
    };
    let stranger = Access::default();
    assert_eq!(check(&[&[1059]], &stranger), Err(Refusal::PrivateNeedsAuthentication));
    assert_eq!(check(&[&[1059], &[21_059, 1059]], &stranger), Err(Refusal::PrivateNeedsAuthentication));
    assert_eq!(check(&[&[1, 1059]], &stranger), Ok(()), "the public part can be answered");
    assert_eq!(check(&[&[1059], &[1]], &stranger), Ok(()), "and so can the public filter");
    assert_eq!(check(&[], &stranger), Ok(()), "nothing is asked for, so nothing is private");
    assert_eq!(check(&[&[1059]], &authenticated(BOB)), Ok(()));
    // Those for their author alone ask for it as well.
    let author_only = PrivateKinds::default().with_author_only(vec![Kind(30_078)]);
    let stranger = Access { private_kinds: author_only.clone(), ..stranger };
    assert_eq!(check(&[&[1059, 30_078]], &stranger), Err(Refusal::PrivateNeedsAuthentication));
    assert_eq!(check(&[&[30_078, 78]], &stranger), Ok(()));
    assert_eq!(check(&[&[30_078]], &Access { private_kinds: author_only, ..authenticated(BOB) }), Ok(()));
}

#[test]
fn a_private_kind_is_for_its_recipients_or_for_its_author() {
    let private = PrivateKinds::new(vec![Kind(1059), Kind(4)]).with_author_only(vec![Kind(78), Kind(4)]);
    assert_eq!(private.as_slice(), [4, 78, 1059].map(Kind));
    assert_eq!(private.for_recipients().collect::<Vec<_>>(), [Kind(1059)], "the stricter rule counts");
    assert_eq!(private.for_authors().collect::<Vec<_>>(), [4, 78].map(Kind));
    let reads = |kind: u16, reader: PublicKey, private: &PrivateKinds| {
        let access = Access { private_kinds: private.clone(), ..authenticated(reader) };
        access.may_read(&event(kind, &[&["p", &BOB.to_hex()]], ""))
    };
    for (kind, author, recipient) in [(1, true, true), (4, true, false), (78, true, false), (1059, false, true)] {
        assert_eq!((reads(kind, ALICE, &private), reads(kind, BOB, &private)), (author, recipient), "{kind}");
    }
    let to_recipients = PrivateKinds::new(private.as_slice().to_vec());
    assert!(reads(78, BOB, &to_recipients), "control: without the rule who is named reads it");
}

fn auth(at: Timestamp, kind: u16, challenge: &str, relay: &str) -> Result<PublicKey, Refusal> {
    let own = [RelayUrl::parse("wss://relay.example.com").unwrap(), RelayUrl::parse("ws://127.0.0.1:7777/x").unwrap()];
    check_auth(
        &event_at(at, kind, &[&["relay", relay], &["challenge", challenge]], ""),
        "secret",
        OwnUrls::Configured(&own),
        NOW,
    )
}

#[test]
fn an_auth_answers_challenge_kind_and_time() {
    let url = "wss://relay.example.com/";
    assert_eq!(auth(NOW, 22_242, "secret", url), Ok(ALICE));
    assert!(matches!(auth(NOW, 22_242, "other", url), Err(Refusal::WrongAuthentication(_))));
    assert!(matches!(auth(NOW, 22_242, "", url), Err(Refusal::WrongAuthentication(_))));
    assert!(matches!(auth(NOW, 22_243, "secret", url), Err(Refusal::WrongAuthentication(_))));
    for side in [-1, 1] {
        assert_eq!(auth(NOW + side * 600, 22_242, "secret", url), Ok(ALICE));
        assert!(matches!(auth(NOW + side * 601, 22_242, "secret", url), Err(Refusal::WrongAuthentication(_))));
    }
    let without_tags = event(22_242, &[], "");
    assert!(check_auth(&without_tags, "secret", OwnUrls::Reached(None), NOW).is_err());
}

#[test]
fn an_auth_names_this_relay_in_any_spelling() {
    let here = |relay| auth(NOW, 22_242, "secret", relay).is_ok();
    for relay in [
        "wss://relay.example.com",
        "wss://RELAY.Example.com/",
        "WSS://relay.example.com:443/",
        "wss://relay.example.com.",
        "ws://127.0.0.1:7777/x/",
    ] {
        assert!(here(relay), "{relay}");
    }
    for relay in [
        "wss://relay.example.org",
        "wss://relay.example.com.evil.org",
        "wss://relay.example.com@evil.org",
        "wss://relay.example.com:444",
        "wss://relay.example.com/other",
        "ws://relay.example.com",
        "ws://127.0.0.1:7777",
        "https://relay.example.com",
        "relay.example.com",
        "",
    ] {
        assert!(!here(relay), "{relay}");
    }
}

#[test]
fn without_a_configured_url_only_names_count_that_are_surely_ours() {
    let local = Some("203.0.113.5".parse().unwrap());
    let own = |url: &str| RelayUrl::parse(url).unwrap().is_surely_own(local);
    for url in [
        "ws://localhost:7777",
        "ws://LOCALHOST",
        "ws://relay.localhost",
        "ws://127.0.0.1:7777",
        "ws://127.9.9.9",
        "ws://[::1]:7777",
        "ws://[::ffff:127.0.0.1]",
        "ws://10.1.2.3",
        "ws://172.31.0.1",
        "wss://192.168.1.5",
        "ws://169.254.1.1",
        "ws://[fd00::1]",
        "ws://[fe80::1]",
        "ws://203.0.113.5:7777",
        "ws://[::ffff:203.0.113.5]",
    ] {
        assert!(own(url), "{url}");
    }
    for url in [
        "wss://relay.example.com",
        "ws://localhost.example.com",
        "ws://notlocalhost",
        "ws://127.0.0.1.example.com",
        "ws://172.32.0.1",
        "ws://203.0.113.6",
        "ws://8.8.8.8",
        "ws://[2001:db8::1]",
    ] {
        assert!(!own(url), "{url}");
    }

    let auth = |own: OwnUrls<'_>, named: &str| {
        check_auth(&event(22_242, &[&["relay", named], &["challenge", "secret"]], ""), "secret", own, NOW)
    };
    let here = RelayUrl::parse("ws://localhost:7777").unwrap();
    assert_eq!(auth(OwnUrls::Reached(Some(&here)), "ws://localhost:7777/"), Ok(ALICE));
    let refused = |own, named| match auth(own, named) {
        Err(Refusal::WrongAuthentication(words)) => words,
        other => panic!("{named}: {other:?}"),
    };
    assert!(refused(OwnUrls::Reached(Some(&here)), "ws://127.0.0.1:7777").contains("public_url"));
    assert!(refused(OwnUrls::Reached(None), "ws://localhost:7777").contains("public_url"));
    let configured = [RelayUrl::parse("wss://Relay.example/").unwrap(), here.clone()];
    assert_eq!(auth(OwnUrls::Configured(&configured), "ws://localhost:7777"), Ok(ALICE));
    assert!(refused(OwnUrls::Configured(&configured), "ws://evil.example").ends_with("must name wss://relay.example"));
}

#[test]
fn a_relay_url_is_shown_as_clients_write_it() {
    for (url, shown) in [
        ("WSS://Relay.Example.com:443/", "wss://relay.example.com"),
        ("ws://relay.example:80/x/?y#z", "ws://relay.example/x"),
        ("wss://[::1]:7777", "wss://[::1]:7777"),
    ] {
        assert_eq!(RelayUrl::parse(url).unwrap().to_string(), shown);
    }
}
