//! Every invalid input gets its answer, and the next message is served, unless the connection is closed with a reason.

#![allow(missing_docs, clippy::unwrap_used)]

mod kit;

use kit::raw::{self, TEXT, frame};
use kit::{Author, Goodbye, Relay};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::tungstenite::Message;

#[tokio::test]
async fn what_is_not_understood_gets_a_notice_and_the_next_message_is_served() {
    let relay = Relay::start().await;
    let mut client = relay.connect().await;
    for text in ["", "hello", "{}", "[]", "[1]", "[\"NOPE\",{}]", "[\"CLOSE\"]", "[\"REQ\"]", "[\"REQ\",7,{}]"] {
        client.send_text(text).await;
        let notice = client.notice().await;
        assert!(notice.starts_with("invalid: ") || notice.starts_with("unsupported: "), "{text}: {notice}");
        client.assert_served().await;
    }
    client.send_message(Message::binary(b"[\"REQ\",\"x\",{}]".to_vec())).await;
    assert!(client.notice().await.starts_with("invalid: "));
    client.assert_served().await;
    assert!(client.unexpected().is_empty(), "{:?}", client.unexpected());
}

#[tokio::test]
async fn every_event_gets_one_ok() {
    let relay = Relay::start().await;
    let mut client = relay.connect().await;
    let author = Author::new();
    let good = author.note("hello");
    assert_eq!(client.publish(&good).await, (true, String::new()));
    let (stored, words) = client.publish(&good).await;
    assert!(stored && words.starts_with("duplicate: "), "{words}");

    let wrong_id = author.note("a").text().replace("\"content\":\"a\"", "\"content\":\"b\"");
    client.send_text(format!("[\"EVENT\",{wrong_id}]")).await;
    let ok = client.next().await;
    assert_eq!((&ok[0], &ok[2]), (&json!("OK"), &json!(false)));
    assert!(ok[3].as_str().unwrap().starts_with("invalid: "));

    let (signed, other) = (author.note("c"), author.note("d"));
    let signature = |event: &relay::types::Event| {
        serde_json::from_str::<serde_json::Value>(event.text()).unwrap()["sig"].as_str().unwrap().to_owned()
    };
    let forged = signed.text().replace(&signature(&signed), &signature(&other));
    client.send_text(format!("[\"EVENT\",{forged}]")).await;
    let (stored, words) = client.ok(signed.id()).await;
    assert!(!stored && words.starts_with("invalid: "), "{words}");

    for broken in ["[\"EVENT\"]", "[\"EVENT\",7]", "[\"EVENT\",{}]", "[\"EVENT\",null]"] {
        client.send_text(broken).await;
        let ok = client.next().await;
        assert_eq!((&ok[0], &ok[1], &ok[2]), (&json!("OK"), &json!(""), &json!(false)), "{broken}");
    }
    client.assert_served().await;
    assert!(client.unexpected().is_empty(), "{:?}", client.unexpected());
}

#[tokio::test]
async fn a_subscription_id_has_1_to_64_characters() {
    let relay = Relay::start().await;
    let mut client = relay.connect().await;
    for id in [String::new(), "x".repeat(65), "ä".repeat(65)] {
        client.send(json!(["REQ", id, {}])).await;
        assert!(client.closed(&id).await.starts_with("invalid: "));
        client.send(json!(["COUNT", id, {}])).await;
        assert!(client.closed(&id).await.starts_with("invalid: "));
        client.assert_served().await;
    }
    for id in ["x".repeat(64), "ä".repeat(64), "\"\\\n\u{1F980}".to_owned()] {
        assert!(client.subscribe(&id, json!({"limit": 0})).await.is_empty());
    }
}

#[tokio::test]
async fn a_message_that_is_too_large_is_refused_in_kind() {
    let relay = Relay::with(|setup| setup.settings.max_message_bytes = 10_000).await;
    let mut client = relay.connect().await;
    let event = Author::new().note(&"x".repeat(10_000));
    let (stored, words) = client.publish(&event).await;
    assert!(!stored && words.starts_with("invalid: ") && words.contains("10000"), "{words}");
    client.send(json!(["REQ", "large", {"#t": ["x".repeat(10_000)]}])).await;
    assert!(client.closed("large").await.contains("10000"));
    client.assert_served().await;

    // A message of the allowed size is taken, in one frame or in many.
    let event = Author::new().note(&"x".repeat(9_000));
    let text = format!("[\"EVENT\",{}]", event.text());
    let (first, second) = text.as_bytes().split_at(text.len() / 2);
    let stream = client.stream();
    stream.write_all(&frame(0x01, first)).await.unwrap();
    stream.write_all(&frame(0x89, b"between")).await.unwrap();
    stream.write_all(&frame(0x80, second)).await.unwrap();
    assert!(client.ok(event.id()).await.0);
}

#[tokio::test]
async fn a_message_far_too_large_ends_the_connection_with_a_reason() {
    let relay = Relay::with(|setup| setup.settings.max_message_bytes = 10_000).await;
    let mut client = relay.connect().await;
    // The client is still sending when it is refused, and must get the refusal nevertheless.
    let bytes = frame(TEXT, &vec![b'x'; 4_000_000]);
    client.stream().write_all(&bytes).await.unwrap();
    assert_eq!(client.goodbye().await, Goodbye::Closed(1009, "message too large".to_owned()));
    assert!(client.notice().await.contains("10000"));
    relay.connect().await.assert_served().await;
}

#[tokio::test]
async fn broken_frames_end_the_connection_with_the_right_code() {
    let relay = Relay::start().await;
    for (what, bytes, code) in [
        ("text that is not UTF-8", frame(TEXT, &[0xff, 0xfe]), 1007),
        ("reserved bits", frame(0xc1, b"x"), 1002),
        ("an unknown opcode", frame(0x83, b"x"), 1002),
        ("a continuation of nothing", frame(0x80, b"x"), 1002),
        ("a ping in pieces", frame(0x09, b"x"), 1002),
        ("an unmasked frame", vec![TEXT, 1, b'x'], 1002),
    ] {
        let mut client = relay.connect().await;
        client.stream().write_all(&bytes).await.unwrap();
        match client.goodbye().await {
            Goodbye::Closed(found, _) => assert_eq!(found, code, "{what}"),
            Goodbye::Gone => panic!("{what}: no goodbye"),
        }
    }
    relay.connect().await.assert_served().await;
}

#[tokio::test]
async fn pings_are_answered_and_goodbyes_returned() {
    let relay = Relay::start().await;
    let mut client = relay.connect().await;
    client.send_message(Message::Ping("are you there?".into())).await;
    client.assert_served().await;
    client.send_message(Message::Close(None)).await;
    assert_eq!(client.goodbye().await, Goodbye::Closed(1005, String::new()), "an empty goodbye is returned empty");
}

#[tokio::test]
async fn http_is_answered_at_the_root_only() {
    let relay = Relay::with(|setup| setup.information = "{\"name\":\"test\"}").await;
    let get = async |path: &str, headers: &str| raw::http(relay.address, &raw::get(path, headers)).await;
    let page = get("/", "").await;
    assert!(raw::status(&page) == 200 && page.contains("Nostr"), "{page}");
    let document = get("/", "Accept: application/nostr+json\r\n").await;
    assert!(document.ends_with("\r\n\r\n{\"name\":\"test\"}"), "{document}");
    assert!(document.contains("content-type: application/nostr+json"));
    for header in ["origin", "headers", "methods"] {
        assert!(document.contains(&format!("access-control-allow-{header}: ")), "{document}");
    }

    let preflight = raw::http(relay.address, "OPTIONS / HTTP/1.1\r\nHost: relay.example\r\n\r\n").await;
    assert!(raw::status(&preflight) == 204 && preflight.contains("access-control-allow-origin: *"));
    assert!(!preflight.contains("content-type:") && !preflight.contains("content-length:"), "{preflight}");
    assert!(preflight.contains("allow: GET, HEAD, OPTIONS\r\n") && preflight.ends_with("\r\n\r\n"), "{preflight}");
    let accept = "Host: relay.example\r\nAccept: application/nostr+json\r\n\r\n";
    let head = raw::http(relay.address, &format!("HEAD / HTTP/1.1\r\n{accept}")).await;
    assert!(raw::status(&head) == 200 && head.ends_with("\r\n\r\n"), "a HEAD has no body: {head}");
    assert!(head.contains("content-length: 15\r\n") && head.contains("content-type: application/nostr+json"), "{head}");
    assert_eq!(raw::status(&get("/other", "").await), 404);
    assert_eq!(raw::status(&get("/other", raw::UPGRADE).await), 404);
    assert_eq!(
        raw::status(&raw::http(relay.address, "POST / HTTP/1.1\r\nHost: x\r\ncontent-length: 0\r\n\r\n").await),
        405
    );
    assert_eq!(raw::status(&raw::http(relay.address, "nonsense\r\n\r\n").await), 400);
    relay.connect().await.assert_served().await;
}

/// RFC 9110, 12.5.1: a weight of 0 is a refusal, and a wildcard names nothing.
#[tokio::test]
async fn the_document_goes_to_those_who_want_it_most() {
    let relay = Relay::with(|setup| setup.information = "{\"name\":\"test\"}").await;
    for (accept, content_type) in [
        ("application/nostr+json", "application/nostr+json"),
        ("application/nostr+json;q=0.5, */*;q=0.1", "application/nostr+json"),
        ("text/html;q=0.9, application/nostr+json;q=0.9", "application/nostr+json"),
        ("application/nostr+json;q=0.2, text/html", "text/html; charset=utf-8"),
        ("application/nostr+json;q=0, text/html", "text/html; charset=utf-8"),
        ("text/html;q=0", "text/plain; charset=utf-8"),
        ("application/nostr+json;q=0", "text/plain; charset=utf-8"),
        ("application/nostr+json;q=0.0, */*", "text/plain; charset=utf-8"),
        ("*/*", "text/plain; charset=utf-8"),
    ] {
        let page = raw::http(relay.address, &raw::get("/", &format!("Accept: {accept}\r\n"))).await;
        assert!(page.contains(&format!("content-type: {content_type}\r\n")), "{accept}: {page}");
    }
}

/// RFC 9112, 3.2: any request, not only for a WebSocket.
#[tokio::test]
async fn a_request_names_one_host() {
    let relay = Relay::start().await;
    let status = async |request: &str| raw::status(&raw::http(relay.address, request).await);
    for headers in ["", "Host: a.example\r\nHost: a.example\r\n", "Host: a b\r\n", "Host: user@a.example\r\n"] {
        for (path, upgrade) in [("/", ""), ("/other", ""), ("/", raw::UPGRADE)] {
            let request = format!("GET {path} HTTP/1.1\r\n{headers}{upgrade}\r\n");
            assert_eq!(status(&request).await, 400, "{request}");
        }
    }
    assert_eq!(status("GET / HTTP/1.1\r\nHost: a.example:7777\r\n\r\n").await, 200, "control");
    assert_eq!(status("GET / HTTP/1.0\r\n\r\n").await, 200, "HTTP/1.0 knows no Host");
    assert_eq!(status("GET / HTTP/1.1\r\nHost:\r\n\r\n").await, 200, "an empty one is allowed");
    relay.connect().await.assert_served().await;
}

#[tokio::test]
async fn a_handshake_must_be_a_whole_one() {
    const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let relay = Relay::start().await;
    for (line, replacement, status) in [
        (KEY, &*format!("{KEY}{KEY}"), 400),
        (KEY, &*format!("{KEY}Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"), 400),
        (KEY, &*format!("{KEY}Content-Length: 5\r\n"), 400),
        (KEY, &*format!("{KEY}Transfer-Encoding: chunked\r\n"), 400),
        ("Sec-WebSocket-Version: 13\r\n", "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 8\r\n", 400),
        // A key of 15 bytes, and one of 16 bytes that are not in base64.
        ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25j", 400),
        ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25j_-==", 400),
        ("Version: 13", "Version: 12", 426),
        ("Sec-WebSocket-Version: 13\r\n", "", 426),
        ("Connection: Upgrade", "Connection: keep-alive", 400),
        ("dGhlIHNhbXBsZSBub25jZQ==", "too short", 400),
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "", 400),
    ] {
        let headers = raw::UPGRADE.replace(line, replacement);
        assert_ne!(headers, raw::UPGRADE);
        let answer = raw::http(relay.address, &raw::get("/", &headers)).await;
        assert_eq!(raw::status(&answer), status, "{line}: {answer}");
        assert!(status != 426 || answer.contains("sec-websocket-version: 13"), "{answer}");
        assert!(answer.contains("content-type: text/plain") && !answer.ends_with("\r\n\r\n"), "words: {answer}");
    }

    let empty_body = raw::UPGRADE.replace(KEY, &format!("{KEY}Content-Length: 0\r\n"));
    let mut stream = tokio::net::TcpStream::connect(relay.address).await.unwrap();
    stream.write_all(raw::get("/", &empty_body).as_bytes()).await.unwrap();
    let mut status = [0; 12];
    kit::patiently("a status", tokio::io::AsyncReadExt::read_exact(&mut stream, &mut status)).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 101", "control: an empty body is none");
}

/// Frames in the same segment as the request are not lost on the way from hyper to the WebSocket.
#[tokio::test]
async fn frames_right_behind_the_handshake_are_served() {
    let relay = Relay::start().await;
    let mut stream = tokio::net::TcpStream::connect(relay.address).await.unwrap();
    let mut bytes = raw::get("/", raw::UPGRADE).into_bytes();
    bytes.extend(frame(TEXT, b"[\"REQ\",\"early\",{\"limit\":0}]"));
    stream.write_all(&bytes).await.unwrap();
    let mut answer = Vec::new();
    kit::patiently("EOSE", async {
        while !answer.windows(16).any(|window| window == b"[\"EOSE\",\"early\"]") {
            tokio::io::AsyncReadExt::read_buf(&mut stream, &mut answer).await.unwrap();
        }
    })
    .await;
    // RFC 6455's own example.
    assert!(String::from_utf8_lossy(&answer).contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
}
