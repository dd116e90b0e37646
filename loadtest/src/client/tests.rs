use super::*;

/// A server's frame: no mask.
fn served(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        length @ 0..=125 => frame.push(length as u8),
        length @ 126..=65_535 => {
            frame.push(126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend(payload);
    frame
}

/// Feeds `chunks` as if each were one read; returns the messages and what the client would send.
fn feed(chunks: &[&[u8]]) -> Result<(Vec<Vec<u8>>, Vec<u8>), ClientError> {
    let (mut partial, mut buffer, mut unsent, mut messages) = (Partial::default(), Vec::new(), Vec::new(), Vec::new());
    for chunk in chunks {
        partial.room(&mut buffer)[..chunk.len()].copy_from_slice(chunk);
        partial.take(&mut buffer, chunk.len(), &mut unsent, &mut |text| messages.push(text.to_vec()))?;
    }
    assert_eq!(partial.0.capacity(), 0, "an idle connection owns memory");
    Ok((messages, unsent))
}

const LENGTHS: [usize; 7] = [0, 1, 125, 126, 65_535, 65_536, 200_000];

#[test]
fn every_length_form_is_read() {
    for length in LENGTHS {
        let payload = vec![b'x'; length];
        let (messages, _) = feed(&[&served(1, &payload)]).unwrap();
        assert_eq!(messages, [payload], "{length}");
    }
}

#[test]
fn a_read_may_end_at_any_byte() {
    let texts = [vec![b'a'; 3], vec![], vec![b'b'; 125], vec![b'c'; 126], vec![b'd'; 200]];
    let mut stream = Vec::new();
    for text in &texts {
        stream.extend(served(1, text));
        stream.extend(served(9, b"still there?"));
    }
    let (whole, pongs) = feed(&[&stream]).unwrap();
    assert_eq!(whole, texts);
    for at in 0..=stream.len() {
        let (head, tail) = stream.split_at(at);
        assert_eq!(feed(&[head, tail]).unwrap(), (whole.clone(), pongs.clone()), "split at {at}");
    }
    let bytes = stream.chunks(1).collect::<Vec<_>>();
    assert_eq!(feed(&bytes).unwrap(), (whole, pongs));
}

#[test]
fn a_long_message_may_come_in_many_reads() {
    let payload = (0..900_000).map(|byte| byte as u8).collect::<Vec<_>>();
    let stream = served(1, &payload);
    let chunks = stream.chunks(65_000).collect::<Vec<_>>();
    assert_eq!(feed(&chunks).unwrap().0, [payload]);
}

#[test]
fn written_frames_are_masked_and_say_their_length() {
    for length in LENGTHS {
        let payload = vec![b'x'; length];
        let mut frame = Vec::new();
        encode_text(&[&payload[..length / 2], &payload[length / 2..]], &mut frame);
        assert_eq!(frame[0], 0x81);
        assert_eq!(frame[1] & 0x80, 0x80, "the mask bit");
        // Without the mask bit and the key it is the frame a server would send.
        let key = frame.len() - length - 4;
        assert_eq!(frame.drain(key..key + 4).collect::<Vec<_>>(), [0; 4]);
        frame[1] &= 0x7f;
        assert_eq!(frame, served(1, &payload), "{length}");
    }
}

#[test]
fn pings_are_answered_in_order_with_their_payload() {
    let (_, unsent) = feed(&[&served(9, b"one"), &served(10, b""), &served(9, b"two")]).unwrap();
    assert_eq!(unsent, b"\x8a\x83\0\0\0\0one\x8a\x83\0\0\0\0two");
}

#[test]
fn what_the_client_does_not_take_is_refused_by_name() {
    let refusal = |bytes: &[u8]| match feed(&[bytes]) {
        Err(ClientError::Frame(error)) => error,
        other => panic!("{other:?}"),
    };
    assert_eq!(refusal(b"\x01\x01a"), FrameError::Fragmented);
    assert_eq!(refusal(b"\x80\x01a"), FrameError::Fragmented);
    assert_eq!(refusal(&served(2, b"a")), FrameError::Opcode(2));
    assert_eq!(refusal(b"\xc1\x01a"), FrameError::Reserved);
    assert_eq!(refusal(b"\x81\x81\0\0\0\0a"), FrameError::Masked);
    assert_eq!(refusal(b"\x81\x7f\xff\0\0\0\0\0\0\0"), FrameError::TooLong(0xff << 56));
}

#[test]
fn a_close_frame_ends_the_connection_with_its_code() {
    let Err(ClientError::Closed { code, reason }) = feed(&[&served(8, b"\x03\xf4restart")]) else {
        panic!("not closed")
    };
    assert_eq!((code, reason.as_str()), (1012, "restart"));
    assert!(matches!(feed(&[&served(8, b"")]), Err(ClientError::Closed { code: 1005, .. })));
}
