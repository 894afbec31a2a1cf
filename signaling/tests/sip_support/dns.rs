//! A name server on loopback with a few records.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_resolver::proto::op::{Message, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, NAPTR, SRV};
use hickory_resolver::proto::rr::{Name, RData, Record};
use tokio::net::UdpSocket;

/// A name server that knows these records, and how often it was asked.
pub(crate) async fn dns(records: Vec<(&'static str, RData)>) -> (SocketAddr, Arc<AtomicUsize>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (address, asked) = (socket.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counter = asked.clone();
    tokio::spawn(async move {
        let mut buffer = [0; 2048];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            let question = Message::from_vec(&buffer[..length]).unwrap();
            counter.fetch_add(1, Ordering::Relaxed);
            let query = question.queries[0].clone();
            let mut answer = Message::response(question.metadata.id, OpCode::Query);
            answer.metadata.recursion_available = true;
            for (name, data) in &records {
                let name = Name::from_utf8(format!("{name}.")).unwrap();
                if name == *query.name() && data.record_type() == query.query_type() {
                    answer.add_answer(Record::from_rdata(name, 60, data.clone()));
                }
            }
            if answer.answers.is_empty() {
                answer.metadata.response_code = ResponseCode::NXDomain;
            }
            answer.add_query(query);
            socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
        }
    });
    (address, asked)
}

pub(crate) fn name(text: &str) -> Name {
    Name::from_utf8(format!("{text}.")).unwrap()
}

pub(crate) fn srv(priority: u16, weight: u16, port: u16, target: &str) -> RData {
    RData::SRV(SRV::new(priority, weight, port, name(target)))
}

pub(crate) fn naptr(order: u16, preference: u16, service: &str, replacement: &str) -> RData {
    let bytes = |text: &str| text.as_bytes().to_vec().into_boxed_slice();
    RData::NAPTR(NAPTR::new(order, preference, bytes("s"), bytes(service), bytes(""), name(replacement)))
}

pub(crate) fn a(last: u8) -> RData {
    RData::A(A::new(192, 0, 2, last))
}
