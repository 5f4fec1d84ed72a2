//! What strangers send: garbage, half frames, other versions, requests for data. Each is told what it did where that
//! is possible, and none of them changes anything.

use snowskin_io::framing::{FrameError, FrameReader, say_hello, write_frame};
use snowskin_io::sim::{SimPlatform, SimReader, SimWriter, Simulation};
use snowskin_io::{ByteReader, ByteWriter, Platform, Stream};
use snowskin_master::{MasterConfig, MasterHandle};
use snowskin_protocol::wire::control::{Orders, Report};
use snowskin_protocol::wire::hello::{Hello, ROLE_MASTER};
use snowskin_protocol::wire::{Header, Opcode, Refusal};
use snowskin_protocol::{CoreId, EngineId, Epoch, Incarnation, Member, RoutingTable};
use std::future::Future;
use std::io::IoSlice;
use std::time::Duration;

type Frames = (FrameReader<SimReader>, SimWriter);

/// Runs a client against a master of its own; answers the master as it is afterwards.
fn against_a_master<F: Future<Output = ()> + 'static>(
    client: impl FnOnce(SimPlatform, MasterHandle) -> F + 'static,
) {
    let simulation = Simulation::new(11);
    let (master_node, client_node) = (simulation.node("master"), simulation.node("client"));
    let (platform, listen) = (master_node.clone(), master_node.address(7300));
    let config = MasterConfig { listen, ..MasterConfig::default() };
    let start = async move { snowskin_master::start(&platform, config).await };
    let handle = simulation.block_on(&master_node, start).unwrap().unwrap();
    let before = handle.master.borrow().state.table().clone();
    simulation.block_on(&client_node, client(client_node.clone(), handle.clone())).expect("it ends");
    simulation.run_for(Duration::from_secs(1)).unwrap();
    let master = handle.master.borrow();
    assert_eq!(master.frames.connections, 0, "every connection is closed");
    assert_eq!(master.state.table(), &before);
    assert_eq!(master.state.membership().rows().count(), 0);
}

async fn connect(platform: &SimPlatform, handle: &MasterHandle) -> Frames {
    let (reader, writer) = platform.connect(handle.address).await.unwrap().split();
    (FrameReader::new(reader), writer)
}

async fn greeted(platform: &SimPlatform, handle: &MasterHandle) -> Frames {
    let (mut reader, mut writer) = connect(platform, handle).await;
    let welcome = say_hello(&mut reader, &mut writer).await.unwrap();
    assert_eq!((welcome.role, welcome.epoch), (ROLE_MASTER, Epoch(0)));
    (reader, writer)
}

async fn answer(reader: &mut FrameReader<SimReader>) -> Option<(Header, Vec<u8>)> {
    let (header, checksum) = reader.header().await.ok()??;
    let mut body = Vec::new();
    reader.body(&header, checksum, &mut body).await.ok()?;
    Some((header, body))
}

async fn write_all(writer: &mut SimWriter, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match writer.write(&[IoSlice::new(bytes)]).await {
            Ok(count) => bytes = &bytes[count..],
            Err(_) => return,
        }
    }
}

fn report() -> Report {
    let member = Member {
        id: CoreId { engine: EngineId(1), core: 0 },
        incarnation: Incarnation(1),
        address: "10.0.0.2:7400".parse().unwrap(),
        weight: 64,
    };
    Report {
        member,
        engine_cores: 1,
        epoch: Epoch(0),
        slots_moving: 0,
        keeps: false,
        load: Default::default(),
    }
}

#[test]
fn requests_for_data_are_refused_and_counted() {
    against_a_master(async |platform, handle| {
        let (mut reader, mut writer) = greeted(&platform, &handle).await;
        let control = [Opcode::Hello, Opcode::Register, Opcode::Heartbeat, Opcode::Leave, Opcode::OfferTable];
        let data: Vec<Opcode> = Opcode::ALL
            .into_iter()
            .filter(|opcode| *opcode != Opcode::Table && !control.contains(opcode))
            .collect();
        for &opcode in &data {
            let mut header = Header::request(opcode, 7, Epoch(0));
            let payload = if opcode.request_has_payload() { vec![1; 100_000] } else { Vec::new() };
            header.payload_bytes = payload.len() as u64;
            write_frame(&mut writer, header, b"body").await.unwrap();
            write_all(&mut writer, &payload).await;
            let (header, body) = answer(&mut reader).await.unwrap();
            assert_eq!((header.opcode, header.refusal), (opcode, Some(Refusal::WrongRole)));
            assert!(String::from_utf8(body).unwrap().contains("home core"));
        }
        let frames = handle.master.borrow().frames.clone();
        assert_eq!(frames.data_frames_refused, data.len() as u64);
        assert!(data.iter().all(|&opcode| frames.of(opcode) == 1));
        // The connection is still of use.
        write_frame(&mut writer, Header::request(Opcode::Table, 8, Epoch(0)), b"").await.unwrap();
        let (header, body) = answer(&mut reader).await.unwrap();
        assert_eq!((header.request, header.refusal), (8, None));
        assert_eq!(RoutingTable::decode(&body), Ok(RoutingTable::empty()));
    });
}

#[test]
fn a_giant_put_is_refused_and_cut_off() {
    against_a_master(async |platform, handle| {
        let (mut reader, mut writer) = greeted(&platform, &handle).await;
        let header = Header { payload_bytes: 1 << 33, ..Header::request(Opcode::Put, 1, Epoch(0)) };
        write_frame(&mut writer, header, b"").await.unwrap();
        assert_eq!(answer(&mut reader).await.unwrap().0.refusal, Some(Refusal::WrongRole));
        assert!(answer(&mut reader).await.is_none());
    });
}

#[test]
fn garbage_closes_the_connection() {
    against_a_master(async |platform, handle| {
        let (mut reader, mut writer) = platform.connect(handle.address).await.unwrap().split();
        write_all(
            &mut writer,
            b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: somebody who is lost\r\n\r\n",
        )
        .await;
        // A sentence, and the end.
        let mut buffer = [0; 64];
        let mut said = 0;
        while let Ok(count @ 1..) = reader.read(&mut buffer).await {
            said += count;
        }
        assert!(said > 64, "a header and a sentence");
        assert_eq!(handle.master.borrow().frames.bad_frames, 1);
        // Behind a good hello as well.
        let (mut reader, mut writer) = greeted(&platform, &handle).await;
        write_all(&mut writer, &[0xa5; 64]).await;
        assert!(answer(&mut reader).await.is_none());
        assert_eq!(handle.master.borrow().frames.bad_frames, 2);
    });
}

#[test]
fn a_frame_that_makes_no_sense_is_told_so_and_closes_the_connection() {
    against_a_master(async |platform, handle| {
        let reply_flag = Header { is_reply: true, ..Header::request(Opcode::Table, 1, Epoch(0)) };
        let short = report().encode()[..50].to_vec();
        let cases = [
            (Header::request(Opcode::Register, 1, Epoch(0)), short.clone()),
            (Header::request(Opcode::Heartbeat, 1, Epoch(0)), short),
            (Header::request(Opcode::OfferTable, 1, Epoch(0)), b"no table".to_vec()),
            (Header::request(Opcode::Hello, 1, Epoch(0)), Vec::new()),
            (reply_flag, Vec::new()),
        ];
        for (header, body) in cases {
            let (mut reader, mut writer) = greeted(&platform, &handle).await;
            write_frame(&mut writer, header, &body).await.unwrap();
            let (header, sentence) = answer(&mut reader).await.unwrap();
            assert_eq!(header.refusal, Some(Refusal::BadFrame));
            assert!(!sentence.is_empty());
            assert!(answer(&mut reader).await.is_none());
        }
        assert_eq!(handle.master.borrow().frames.bad_frames, 5);
    });
}

#[test]
fn a_report_that_cannot_be_is_refused_with_a_sentence() {
    against_a_master(async |platform, handle| {
        let (mut reader, mut writer) = greeted(&platform, &handle).await;
        let mut nowhere = report();
        nowhere.member.address = "[::]:7400".parse().unwrap();
        let register = Header::request(Opcode::Register, 1, Epoch(0));
        write_frame(&mut writer, register, &nowhere.encode()).await.unwrap();
        let (header, sentence) = answer(&mut reader).await.unwrap();
        assert_eq!(header.refusal, Some(Refusal::BadFrame));
        assert!(String::from_utf8(sentence).unwrap().contains("[::]:7400"));
        // A table with a core in it twice, and a heartbeat of somebody unknown.
        let mut table = RoutingTable { epoch: Epoch(4), ..RoutingTable::empty() };
        table.members = vec![report().member; 2];
        let mut body = Vec::new();
        table.encode(&mut body);
        write_frame(&mut writer, Header::request(Opcode::OfferTable, 2, Epoch(4)), &body).await.unwrap();
        assert_eq!(answer(&mut reader).await.unwrap().0.refusal, Some(Refusal::BadFrame));
        let heartbeat = Header::request(Opcode::Heartbeat, 3, Epoch(0));
        write_frame(&mut writer, heartbeat, &report().encode()).await.unwrap();
        let (_, body) = answer(&mut reader).await.unwrap();
        assert_eq!(Orders::decode(&body).unwrap().wants_register, 1);
    });
}

#[test]
fn without_a_common_version_there_is_no_conversation() {
    against_a_master(async |platform, handle| {
        let (mut reader, mut writer) = connect(&platform, &handle).await;
        let hello = Hello { version_min: 900, version_max: 901, reserved: 0 };
        let header = Header::request(Opcode::Hello, 0, Epoch(0));
        write_frame(&mut writer, header, bytemuck::bytes_of(&hello)).await.unwrap();
        let (header, sentence) = answer(&mut reader).await.unwrap();
        assert_eq!(header.refusal, Some(Refusal::Version));
        assert!(String::from_utf8(sentence).unwrap().contains("upgrade"));
        assert!(answer(&mut reader).await.is_none());
        // Nor before a hello, nor with another version than was agreed.
        let (mut reader, mut writer) = connect(&platform, &handle).await;
        write_frame(&mut writer, Header::request(Opcode::Table, 1, Epoch(0)), b"").await.unwrap();
        assert_eq!(answer(&mut reader).await.unwrap().0.refusal, Some(Refusal::BadFrame));
        let (mut reader, mut writer) = greeted(&platform, &handle).await;
        let other = Header { version: 9, ..Header::request(Opcode::Table, 1, Epoch(0)) };
        write_frame(&mut writer, other, b"").await.unwrap();
        assert!(answer(&mut reader).await.is_none());
    });
}

#[test]
fn half_frames_and_silence_do_not_hold_a_connection() {
    against_a_master(async |platform, handle| {
        let began = platform.now();
        // Nothing at all, half a hello, half a header, half a body, and nothing after a hello.
        let silent = connect(&platform, &handle).await;
        let hello = Header::request(Opcode::Hello, 0, Epoch(0)).encode(bytemuck::bytes_of(&Hello::ours()));
        let mut half_hello = connect(&platform, &handle).await;
        write_all(&mut half_hello.1, &hello[..40]).await;
        let frame = Header::request(Opcode::Register, 1, Epoch(0)).encode(&report().encode());
        let mut half_header = greeted(&platform, &handle).await;
        write_all(&mut half_header.1, &frame[..30]).await;
        let mut half_body = greeted(&platform, &handle).await;
        write_all(&mut half_body.1, &frame).await;
        write_all(&mut half_body.1, &report().encode()[..60]).await;
        let idle = greeted(&platform, &handle).await;
        assert_eq!(handle.master.borrow().frames.connections, 5);
        for (mut reader, _writer) in [silent, half_hello, half_body] {
            assert!(matches!(reader.header().await, Ok(None) | Err(FrameError::Io(_))));
        }
        assert!(platform.now() - began < Duration::from_secs(8));
        for (mut reader, _writer) in [half_header, idle] {
            assert!(matches!(reader.header().await, Ok(None) | Err(FrameError::Io(_))));
        }
        assert!(platform.now() - began < Duration::from_secs(70));
    });
}
