//! What the URL of an upgrade says.

use proptest::prelude::*;
use tokio_tungstenite::tungstenite::handshake::server::Request;
use tokio_tungstenite::tungstenite::http::StatusCode;

use super::config::{ChanWebSocketConfig, Token};
use super::upgrade::{Invitation, read};

fn config(token: Option<&str>) -> ChanWebSocketConfig {
    ChanWebSocketConfig {
        bind: "127.0.0.1:0".parse().expect("an address"),
        allow: Vec::new(),
        path: "/media".to_owned(),
        user: "agent".to_owned(),
        token: token.map(Token::new),
        answer: false,
    }
}

fn request(uri: &str) -> Request {
    Request::builder().uri(uri).body(()).expect("a request")
}

#[test]
fn the_url_names_the_user_and_the_caller() {
    let read = |uri| read(&config(None), &request(uri));
    let expected = Invitation {
        user: "100".into(),
        from: "+4930123".into(),
        from_name: "Eve O".into(),
        to: "100".into(),
        parameters: vec![("tenant".into(), "acme".into()), ("x".into(), String::new())],
    };
    let uri = "/media/100?from=+4930123&from_name=Eve%20O&tenant=acme&token=secret&x";
    assert_eq!(read(uri), Ok(expected));
    let bare = read("/media").expect("a call");
    assert_eq!((bare.user.as_str(), bare.to.as_str()), ("agent", "agent"));
    let other = read("/media/%2B49?to=7").expect("a call");
    assert_eq!((other.user.as_str(), other.to.as_str()), ("+49", "7"));
    for (uri, status) in [("/", 404), ("/mediax", 404), ("/media/a/b", 404)] {
        assert_eq!(read(uri).map_err(|status| status.as_u16()), Err(status), "{uri}");
    }
}

#[test]
fn strangers_strings_are_bounded_and_clean() {
    let long = format!("/media/{}?from=%0d%0aVia:%20x&{}", "a".repeat(1000), "p=1&".repeat(1000));
    let invitation = read(&config(None), &request(&long)).expect("a call");
    assert_eq!(invitation.user.len(), 256);
    assert_eq!(invitation.from, "Via: x");
    assert!(invitation.parameters.len() <= 32);
}

#[test]
fn a_token_is_wanted_where_there_is_one() {
    let config = config(Some("word"));
    let with = |uri: &str, authorization: Option<&str>| {
        let mut request = request(uri);
        if let Some(value) = authorization {
            request.headers_mut().insert("Authorization", value.parse().expect("a value"));
        }
        read(&config, &request).map(|_| ())
    };
    assert_eq!(with("/media?token=word", None), Ok(()));
    assert_eq!(with("/media", Some("bearer word")), Ok(()));
    assert_eq!(with("/media", Some("Basic dXNlcjp3b3Jk")), Ok(()));
    for bad in ["Bearer words", "Basic dXNlcg==", "Digest word", "word", "Basic"] {
        assert_eq!(with("/media", Some(bad)), Err(StatusCode::UNAUTHORIZED), "{bad}");
    }
    assert_eq!(with("/media?token=", None), Err(StatusCode::UNAUTHORIZED));
    assert!(!format!("{config:?}").contains("word"));
}

proptest! {
    #[test]
    fn any_url_is_survived(path in "[ -~&&[^#\\\\<>\"`{}^| ]]{0,200}") {
        if let Ok(uri) = format!("/media{path}").parse::<tokio_tungstenite::tungstenite::http::Uri>() {
            let _ = read(&config(Some("t")), &Request::builder().uri(uri).body(()).expect("a request"));
        }
    }
}
