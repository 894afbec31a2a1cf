//! The same over TCP on the loopback device: what of a message's cost is the library's, and what the kernel's.
//!
//! A thread of its own sends each message back. Only the processor time of the client's thread counts: a message out and one in, as an
//! AI stream has them, every connection in turn.

use std::hint::black_box;
use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

pub(crate) const NAMES: [&str; 4] = ["bare", "tungstenite", "tokio-websockets", "fastwebsockets"];

/// Nanoseconds of the client's thread for one message out and one in.
pub(crate) fn cost(name: &str, message: &[u8], connections: usize, rounds: u64) -> io::Result<f64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let address = echo_server()?;
    runtime.block_on(async {
        let mut streams = Vec::new();
        for _ in 0..connections {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            streams.push(stream);
        }
        let begun;
        match name {
            "bare" => {
                let mut buffer = Vec::new();
                let mut into = vec![0; 16 * 1024];
                begun = thread_time();
                for n in 0..rounds {
                    for stream in &mut streams {
                        buffer.clear();
                        crate::libraries::frame(message, n as u32 | 1, &mut buffer);
                        stream.write_all(&buffer).await?;
                    }
                    for stream in &mut streams {
                        let mut have = 0;
                        while have < 4 + message.len() {
                            have += stream.read(&mut into[have..]).await?;
                        }
                        black_box(std::str::from_utf8(&into[4..have]).is_ok());
                    }
                }
            }
            "tungstenite" => {
                let mut sockets = Vec::new();
                for stream in streams {
                    sockets.push(crate::libraries::tungstenite(stream).await);
                }
                begun = thread_time();
                for _ in 0..rounds {
                    for socket in &mut sockets {
                        let text = Bytes::copy_from_slice(message).try_into().expect("UTF-8");
                        socket.send(tokio_tungstenite::tungstenite::Message::Text(text)).await.expect("sent");
                    }
                    for socket in &mut sockets {
                        black_box(socket.next().await.expect("one").expect("a message").len());
                    }
                }
            }
            "tokio-websockets" => {
                let mut sockets: Vec<_> = streams
                    .into_iter()
                    .map(|stream| tokio_websockets::ClientBuilder::new().take_over(stream))
                    .collect();
                begun = thread_time();
                for _ in 0..rounds {
                    for socket in &mut sockets {
                        let text = std::str::from_utf8(message).expect("UTF-8").to_owned();
                        socket.send(tokio_websockets::Message::text(text)).await.expect("sent");
                    }
                    for socket in &mut sockets {
                        black_box(socket.next().await.expect("one").expect("a message").is_text());
                    }
                }
            }
            "fastwebsockets" => {
                let mut sockets: Vec<_> = streams
                    .into_iter()
                    .map(|stream| fastwebsockets::FragmentCollector::new(crate::libraries::fast(stream)))
                    .collect();
                let mut copy = Vec::new();
                begun = thread_time();
                for _ in 0..rounds {
                    for socket in &mut sockets {
                        copy.clear();
                        copy.extend_from_slice(message);
                        let payload = fastwebsockets::Payload::BorrowedMut(&mut copy);
                        socket.write_frame(fastwebsockets::Frame::text(payload)).await.expect("sent");
                    }
                    for socket in &mut sockets {
                        black_box(socket.read_frame().await.expect("a frame").payload.len());
                    }
                }
            }
            _ => unreachable!("one of NAMES"),
        }
        Ok((thread_time() - begun) as f64 / (rounds * connections as u64) as f64)
    })
}

/// Sends each masked frame of at most 64 KiB back without its mask. Ends with the program.
fn echo_server() -> io::Result<SocketAddr> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(tokio::task::LocalSet::new().run_until(async {
            let listener = TcpListener::from_std(listener)?;
            loop {
                let (mut stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                tokio::task::spawn_local(async move {
                    let mut bytes = vec![0; 16 * 1024];
                    let mut have = 0;
                    loop {
                        match stream.read(&mut bytes[have..]).await {
                            Ok(0) | Err(_) => return,
                            Ok(more) => have += more,
                        }
                        let length = u16::from_be_bytes([bytes[2], bytes[3]]) as usize;
                        if have < 8 + length {
                            continue;
                        }
                        let key = [bytes[4], bytes[5], bytes[6], bytes[7]];
                        let mut back = vec![0x81, 126, bytes[2], bytes[3]];
                        back.extend(
                            bytes[8..8 + length].iter().enumerate().map(|(at, byte)| byte ^ key[at & 3]),
                        );
                        if stream.write_all(&back).await.is_err() {
                            return;
                        }
                        bytes.copy_within(8 + length..have, 0);
                        have -= 8 + length;
                    }
                });
            }
            #[expect(unreachable_code, reason = "says what the block's type is")]
            io::Result::Ok(())
        }))
    });
    Ok(address)
}

fn thread_time() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
