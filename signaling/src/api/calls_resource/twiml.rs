//! TwiML, as far as a running call can be told something by it.

use roxmltree::{Document, Node, ParsingOptions};

/// What a call is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Instruction {
    /// `<Hangup>`, `<Reject>`.
    HangUp,
    /// `<Dial>`: a number, an address or a name, unchecked.
    Transfer(String),
}

/// Why TwiML is not carried out: what to write instead.
pub(super) type Refusal = String;

/// Reads a `<Response>`. The first verb decides: after a hang-up or a transfer nothing is left to do.
pub(super) fn read(text: &str) -> Result<Instruction, Refusal> {
    if text.chars().count() > LONGEST {
        return Err(format!("Twiml has more than {LONGEST} characters"));
    }
    let options = ParsingOptions { nodes_limit: MOST_NODES, ..ParsingOptions::default() };
    let document = Document::parse_with_options(text.trim(), options)
        .map_err(|error| format!("Twiml is not XML: {error}"))?;
    let root = document.root_element();
    if root.tag_name().name() != "Response" {
        return Err("Twiml must be a <Response>".to_owned());
    }
    let Some(verb) = elements(root).next() else {
        // What comes after the last verb is the end of the call.
        return Ok(Instruction::HangUp);
    };
    match verb.tag_name().name() {
        "Hangup" | "Reject" => Ok(Instruction::HangUp),
        "Dial" => dial(verb),
        "Redirect" => Err("<Redirect> is not supported: this server fetches no TwiML; send the verbs themselves".to_owned()),
        "Connect" | "Start" | "Stop" => {
            Err("the stream of a call is fixed by the configuration (agents.NAME.url); <Connect>, <Start> and <Stop> are not supported".to_owned())
        }
        "Play" | "Say" | "Pause" | "Gather" | "Record" => Err(format!(
            "<{}> is not supported: let the agent speak, pause and listen through its stream",
            verb.tag_name().name()
        )),
        _ => Err("this verb is not supported; a running call takes <Hangup>, <Reject> and <Dial>".to_owned()),
    }
}

/// Reads bytes as TwiML. For fuzzing: it must neither panic nor hang, and whom a call is transferred to is bounded and clean.
///
/// # Panics
/// When it is not.
pub fn fuzz_twiml(data: &[u8]) {
    match read(&String::from_utf8_lossy(data)) {
        Ok(Instruction::HangUp) => {}
        Ok(Instruction::Transfer(whom)) => {
            assert!(!whom.is_empty() && whom.chars().count() <= LONGEST_TARGET);
            assert!(!whom.chars().any(char::is_control));
        }
        Err(refusal) => assert!(!refusal.is_empty()),
    }
}

fn dial(verb: Node<'_, '_>) -> Result<Instruction, Refusal> {
    let mut nouns = elements(verb);
    let whom = match (nouns.next(), nouns.next()) {
        (None, _) => text_of(verb),
        (Some(noun), None) => match noun.tag_name().name() {
            "Number" | "Sip" => text_of(noun),
            _ => return Err("<Dial> takes a number, or one <Number> or <Sip>".to_owned()),
        },
        (Some(_), Some(_)) => return Err("<Dial> takes one number or address at a time".to_owned()),
    };
    if whom.is_empty() {
        return Err("<Dial> names nobody".to_owned());
    }
    Ok(Instruction::Transfer(whom))
}

fn elements<'a, 'input>(node: Node<'a, 'input>) -> impl Iterator<Item = Node<'a, 'input>> {
    node.children().filter(Node::is_element)
}

fn text_of(node: Node<'_, '_>) -> String {
    let text: String = node.children().filter(Node::is_text).filter_map(|node| node.text()).collect();
    text.trim().chars().filter(|character| !character.is_control()).take(LONGEST_TARGET).collect()
}

/// What Twilio allows in a request.
const LONGEST: usize = 4000;
const LONGEST_TARGET: usize = 512;
const MOST_NODES: u32 = 256;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn verbs_that_end_our_part_are_taken() {
        let transfer = |whom: &str| Ok(Instruction::Transfer(whom.to_owned()));
        for (text, expected) in [
            ("<Response><Hangup/></Response>", Ok(Instruction::HangUp)),
            (
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response>\n <Reject reason=\"busy\"/>\n</Response>",
                Ok(Instruction::HangUp),
            ),
            ("<Response/>", Ok(Instruction::HangUp)),
            ("<Response><Dial>+4930123456</Dial></Response>", transfer("+4930123456")),
            (
                "<Response><Dial timeout=\"9\"><Number> sales </Number></Dial><Hangup/></Response>",
                transfer("sales"),
            ),
            (
                "<Response><Dial><Sip>sip:sales@example.com?x=1&amp;y=2</Sip></Dial></Response>",
                transfer("sip:sales@example.com?x=1&y=2"),
            ),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_not_supported_is_refused_with_what_to_do() {
        let deep = format!("<Response>{}</Response>", "<a>".repeat(1000));
        let many = format!("<Response><Dial>{}</Dial></Response>", "<Number>1</Number>".repeat(200));
        let long = format!("<Response><Dial>{}</Dial></Response>", "1".repeat(4000));
        for (text, expected) in [
            ("<Response><Redirect>https://example.com/</Redirect></Response>", "fetches no TwiML"),
            ("<Response><Play>https://example.com/a.wav</Play></Response>", "through its stream"),
            (
                "<Response><Connect><Stream url=\"wss://example.com\"/></Connect></Response>",
                "agents.NAME.url",
            ),
            ("<Response><Frob/></Response>", "<Hangup>, <Reject> and <Dial>"),
            ("<Response><Dial/></Response>", "names nobody"),
            ("<Response><Dial><Client>x</Client></Dial></Response>", "one <Number> or <Sip>"),
            ("<Response><Dial><Number>1</Number><Number>2</Number></Dial></Response>", "at a time"),
            ("<Other/>", "must be a <Response>"),
            ("", "not XML"),
            ("<!DOCTYPE a [<!ENTITY x \"y\">]><Response><Dial>&x;</Dial></Response>", "not XML"),
            (&deep, "not XML"),
            (&many, "not XML"),
            (&long, "4000"),
        ] {
            let refusal = read(text).expect_err(text);
            assert!(refusal.contains(expected), "{refusal}\nshould have\n{expected}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in ".{0,200}|(<[A-Za-z]{1,8}/?>|</[A-Za-z]{1,8}>|&[a-z#0-9]{0,5};|[a-z ]){0,40}") {
            let _ = read(&text);
            let _ = read(&format!("<Response><Dial>{text}</Dial></Response>"));
        }
    }
}
