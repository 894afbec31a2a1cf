use std::future::poll_fn;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use super::*;
use crate::ai::carrier::Socket;

/// Both ends of a connection: ours, and the application's.
async fn pair(max_message_bytes: usize) -> (Socket, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let ours = TcpStream::connect(listener.local_addr().expect("an address")).await.expect("a connection");
    let (theirs, _) = listener.accept().await.expect("a connection");
    let socket = AudioSocket::new(ours, max_message_bytes, Duration::from_secs(2)).expect("options");
    (Socket::AudioSocket(Box::new(socket)), theirs)
}

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![kind];
    frame.extend((payload.len() as u16).to_be_bytes());
    frame.extend(payload);
    frame
}

async fn next(socket: &mut Socket) -> Option<Result<Received, CarrierError>> {
    tokio::time::timeout(Duration::from_secs(20), socket.next()).await.expect("in time")
}

#[tokio::test]
async fn frames_come_whole_however_they_are_cut() {
    let frames = [frame(0x10, &[7; 320]), frame(0xff, &[]), frame(0x10, &vec![9; 65_000]), frame(0, &[])];
    let bytes = frames.concat();
    for cut in [1, 2, 3, 100, 323, 4096, bytes.len()] {
        let (mut socket, mut theirs) = pair(1 << 20).await;
        let bytes = bytes.clone();
        let writer = tokio::spawn(async move {
            let few = if cut < 3 { 700 } else { bytes.len() };
            for piece in bytes[..few].chunks(cut).chain(bytes[few..].chunks(10_000)) {
                theirs.write_all(piece).await.expect("written");
                tokio::task::yield_now().await;
            }
        });
        for expected in &frames {
            let received = next(&mut socket).await;
            assert_eq!(received, Some(Ok(Received::Message(Kind::Binary, expected.clone().into()))), "{cut}");
        }
        let close = Close { code: Close::NORMAL, reason: String::new() };
        assert_eq!(next(&mut socket).await, Some(Ok(Received::Close(close))));
        assert_eq!(next(&mut socket).await, None);
        writer.await.expect("no panic");
    }
}

#[tokio::test]
async fn what_is_sent_is_the_frame_and_the_end_a_hang_up() {
    let (mut socket, mut theirs) = pair(1 << 20).await;
    let audio = frame(0x10, &[1; 320]);
    socket.send(Kind::Text, b"means nothing").await.expect("sent");
    socket.send(Kind::Binary, &audio).await.expect("sent");
    socket.close(Close::NORMAL).await.expect("closed");
    let mut came = Vec::new();
    theirs.read_to_end(&mut came).await.expect("read");
    assert_eq!(came, [audio, vec![0, 0, 0]].concat());
    drop(theirs);
    assert_eq!(next(&mut socket).await, None);
}

#[tokio::test]
async fn a_hang_up_of_the_codec_is_not_said_twice() {
    let (mut socket, mut theirs) = pair(1 << 20).await;
    socket.send(Kind::Binary, &[0, 0, 0]).await.expect("sent");
    socket.close(Close::NORMAL).await.expect("closed");
    let mut came = Vec::new();
    theirs.read_to_end(&mut came).await.expect("read");
    assert_eq!(came, [0, 0, 0]);
}

#[tokio::test]
async fn a_frame_above_the_limit_and_one_that_stays_a_part_are_errors() {
    let (mut socket, mut theirs) = pair(1000).await;
    theirs.write_all(&frame(0x10, &[0; 2000])).await.expect("written");
    assert!(matches!(next(&mut socket).await, Some(Err(CarrierError::TooLarge(_)))));
    assert_eq!(next(&mut socket).await, None);

    let (mut socket, mut theirs) = pair(1000).await;
    theirs.write_all(&[0x10, 1, 64, 0]).await.expect("written");
    drop(theirs);
    assert!(matches!(next(&mut socket).await, Some(Err(CarrierError::Lost(_)))));
}

#[tokio::test]
async fn an_application_that_does_not_read_holds_up_one_frame() {
    let (mut socket, theirs) = pair(1 << 20).await;
    let audio = frame(0x10, &[1; 320]);
    let mut sent = 0usize;
    while poll_fn(|cx| Poll::Ready(socket.poll_ready(cx).is_ready())).await {
        socket.start_send(Kind::Binary, &audio).expect("sent");
        sent += audio.len();
        assert!(sent < 100 << 20, "the kernel takes everything");
    }
    let Socket::AudioSocket(inner) = &socket else { unreachable!("made so") };
    assert!(inner.outgoing.len() <= audio.len());
    drop(theirs);
}

#[tokio::test]
async fn a_dead_host_is_noticed_by_what_it_does_not_acknowledge() {
    let (socket, _theirs) = pair(1 << 20).await;
    let Socket::AudioSocket(inner) = &socket else { unreachable!("made so") };
    assert_eq!(sockopt::tcp_user_timeout(&inner.tcp).expect("an option"), 2_000);
    assert!(sockopt::socket_keepalive(&inner.tcp).expect("an option"));
}
