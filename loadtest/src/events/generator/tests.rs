use super::*;
use crate::events::{fill, sign_all};
use secp256k1::{Secp256k1, XOnlyPublicKey, schnorr::Signature};
use serde_json::Value;
use sha2::{Digest, Sha256};

const UNTIL: u64 = 1_793_491_200;
const SPAN: u64 = 36 * 30 * 86_400;

fn plan(seed: u64, events: usize) -> Plan {
    Plan { seed, events, until: UNTIL, span_seconds: SPAN, kinds: Kinds::Mixed }
}

fn filled(plan: Plan, authors: &Authors, signed: bool) -> String {
    let mut out = Vec::new();
    fill(plan, authors, signed, &mut out, || {}).unwrap();
    String::from_utf8(out).unwrap()
}

fn unhex<const N: usize>(hex: &str) -> [u8; N] {
    std::array::from_fn(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
}

#[test]
fn a_seed_makes_the_same_bytes_and_another_seed_others() {
    let authors = Authors::derive(7, 50);
    let first = filled(plan(1, 3_000), &authors, false);
    assert_eq!(first, filled(plan(1, 3_000), &Authors::derive(7, 50), false));
    assert_ne!(first, filled(plan(2, 3_000), &authors, false));
    assert_ne!(authors.hex(0), Authors::derive(8, 1).hex(0));
    // Pinned, so that the data set does not change by accident: keys of one version must fit files of another.
    let digest: [u8; 32] = Sha256::digest(&first).into();
    assert_eq!(hex_text(&digest), "bc1180ea8ce3887f8d619273f836e3be864c79ea22f71674066eb8d344b41b58");
}

#[test]
fn ids_are_right_and_signatures_hold_where_asked_for() {
    let authors = Authors::derive(7, 50);
    let secp = Secp256k1::verification_only();
    for signed in [true, false] {
        for line in filled(plan(3, 300), &authors, signed).lines() {
            let event: Value = serde_json::from_str(line).unwrap();
            let canonical = serde_json::to_string(&serde_json::json!([
                0,
                event["pubkey"],
                event["created_at"],
                event["kind"],
                event["tags"],
                event["content"]
            ]));
            let id: [u8; 32] = Sha256::digest(canonical.unwrap()).into();
            assert_eq!(event["id"], hex_text(&id), "{line}");
            let signature = Signature::from_byte_array(unhex(event["sig"].as_str().unwrap()));
            let author = XOnlyPublicKey::from_slice(&unhex::<32>(event["pubkey"].as_str().unwrap())).unwrap();
            assert_eq!(secp.verify_schnorr(&signature, &id, &author).is_ok(), signed);
        }
    }
}

#[test]
fn events_are_about_as_large_tagged_and_old_as_real_ones() {
    let authors = Authors::derive(7, 500);
    let text = filled(plan(4, 20_000), &authors, false);
    let events = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect::<Vec<_>>();
    let bytes = text.len() / events.len();
    assert!((540..=660).contains(&bytes), "{bytes} bytes on average");
    let tags = events.iter().flat_map(|event| event["tags"].as_array().unwrap());
    let indexed = tags.filter(|tag| tag[0].as_str().unwrap().len() == 1).count() as f64 / events.len() as f64;
    assert!((1.6..2.0).contains(&indexed), "{indexed} single-letter tags on average");
    let share = |kind: u64| events.iter().filter(|event| event["kind"] == kind).count() * 100 / events.len();
    assert!((59..=61).contains(&share(1)) && (19..=21).contains(&share(7)), "{} {}", share(1), share(7));
    let times = events.iter().map(|event| event["created_at"].as_u64().unwrap()).collect::<Vec<_>>();
    assert!(times.iter().all(|time| *time <= UNTIL && *time + SPAN + 600 >= UNTIL));
    let newest_quarter = times.iter().filter(|time| **time > UNTIL - SPAN / 4).count() * 100 / times.len();
    assert!((49..=51).contains(&newest_quarter), "{newest_quarter} % in the newest quarter");
}

#[test]
fn regular_plans_make_only_events_that_stay() {
    let authors = Authors::derive(7, 50);
    let drafts = Generator::new(Plan { kinds: Kinds::Regular, ..plan(5, 5_000) }, &authors);
    assert!(drafts.map(|draft| draft.kind).all(|kind| matches!(kind, 1 | 6 | 7 | 1111 | 9735)));
}

#[test]
fn signing_keeps_the_order() {
    let authors = Authors::derive(7, 50);
    let drafts = Generator::new(plan(6, 101), &authors).collect::<Vec<_>>();
    let ids = drafts.iter().map(|draft| draft.id).collect::<Vec<_>>();
    let signed = sign_all(drafts, &authors);
    assert_eq!(signed.iter().map(|event| event.id).collect::<Vec<_>>(), ids);
}
