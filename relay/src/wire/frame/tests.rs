use super::*;
use proptest::prelude::*;

fn frames() -> Vec<Frame> {
    let at = Position::new(1, 3, 5_000_000_000);
    vec![
        Frame::Hello(Hello {
            cluster: "shop".into(),
            source: "shop".into(),
            group: "kafka-json".into(),
            member: "c1".into(),
            from: StartFrom::Position { position: at, rows: 7 },
            partitions: PartitionSet::of(70, [0, 63, 64, 69]),
            credit_bytes: 1 << 20,
            selection: Selection::default(),
            process: None,
        }),
        Frame::Hello(Hello {
            cluster: "shop".into(),
            source: "shop".into(),
            group: "g".into(),
            member: "c1".into(),
            from: StartFrom::Earliest,
            partitions: PartitionSet::all(2),
            credit_bytes: 1,
            selection: Selection::default(),
            process: Some(u128::MAX - 5),
        }),
        Frame::Hello(Hello {
            cluster: "shop".into(),
            source: "shop".into(),
            group: "g".into(),
            member: "c1".into(),
            from: StartFrom::Latest,
            partitions: PartitionSet::all(1),
            credit_bytes: 1,
            selection: Selection {
                tables: vec!["shop.*".into(), "!shop.x".into()],
                include_columns: Vec::new(),
                exclude_columns: vec!["*.*.secret".into()],
            },
            process: None,
        }),
        Frame::Welcome(Welcome {
            server_uuid: "u".into(),
            epoch: 2,
            lowest: None,
            highest: Some(at),
            file_base: "mysql-bin".into(),
        }),
        Frame::Error(ErrorFrame { code: ErrorCode::BelowLowest, definite: true, message: "gone".into() }),
        Frame::Block(Bytes::from_static(b"not looked at here")),
        Frame::Schema(SchemaId(9), Bytes::from_static(b"def")),
        Frame::Covered(Covered {
            position: at,
            file_name: "mysql-bin.000003".into(),
            commit_time_us: -1,
            server_uuid: "u".into(),
            head: SourceHead { file_name: "mysql-bin.000004".into(), end_offset: 4, commit_time_us: 5 },
        }),
        Frame::Credit(17),
    ]
}

fn encoded() -> Vec<u8> {
    let mut out = Vec::new();
    for frame in frames() {
        frame.encode(&mut out);
    }
    out
}

/// What goes over the wire between versions.
#[test]
fn only_a_hello_that_says_more_needs_a_later_version() {
    let versions: Vec<u8> = frames()
        .iter()
        .map(|frame| {
            let mut out = Vec::new();
            frame.encode(&mut out);
            out[2]
        })
        .collect();
    assert_eq!(versions, [1, 3, 2, 1, 1, 1, 1, 1, 1]);
}

#[test]
fn frames_come_back_however_they_are_cut() {
    let bytes = encoded();
    for step in [1, 7, bytes.len()] {
        let mut buffer = BytesMut::new();
        let mut got = Vec::new();
        for piece in bytes.chunks(step) {
            buffer.extend_from_slice(piece);
            while let Some(frame) = Frame::decode(&mut buffer).unwrap() {
                got.push(format!("{frame:?}"));
            }
        }
        assert_eq!(got, frames().iter().map(|frame| format!("{frame:?}")).collect::<Vec<_>>());
    }
}

#[test]
fn a_stranger_and_a_newer_peer_are_told_apart() {
    let mut http = BytesMut::from(&b"GET / HTTP/1.1\r\n"[..]);
    assert_eq!(Frame::decode(&mut http).unwrap_err(), FrameError::Magic);
    let mut newer = BytesMut::from(&encoded()[..]);
    newer[2] = 9;
    assert_eq!(Frame::decode(&mut newer).unwrap_err(), FrameError::Version(9));
}

proptest! {
    #[test]
    fn a_flipped_bit_in_a_control_frame_is_refused(at in 0_usize..1000, bit in 0_u8..8) {
        let mut bytes = Vec::new();
        frames()[0].encode(&mut bytes);
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        let mut buffer = BytesMut::from(&bytes[..]);
        // A longer length only makes it wait for more.
        prop_assert!(!matches!(Frame::decode(&mut buffer), Ok(Some(_))));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), valid in any::<bool>()) {
        let mut buffer = BytesMut::new();
        if valid {
            let kind = bytes.first().copied().unwrap_or(1) % 8;
            buffer.extend_from_slice(&header(VERSION, kind, bytes.len(), &bytes));
        }
        buffer.extend_from_slice(&bytes);
        while let Ok(Some(_)) = Frame::decode(&mut buffer) {}
    }
}

/// As a relay or a consumer of the first version sends them: whoever is one version ahead reads them. A consumer that
/// chose among tables and columns, or said of which process it is, was not there yet.
#[test]
fn frames_of_version_1_are_understood() {
    let mut buffer = BytesMut::from(&include_bytes!("../../../fixtures/v1/frames.bin")[..]);
    let is_later = |frame: &Frame| matches!(frame, Frame::Hello(hello) if hello.selection != Selection::default() || hello.process.is_some());
    for frame in frames().into_iter().filter(|frame| !is_later(frame)) {
        let got = Frame::decode(&mut buffer).unwrap().expect("a frame");
        assert_eq!(format!("{got:?}"), format!("{frame:?}"));
    }
    assert!(buffer.is_empty());
}
