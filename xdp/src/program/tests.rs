use super::*;
use crate::netns;

#[test]
fn the_text_for_cpus_that_load_in_any_order_has_barriers_and_is_accepted() {
    let test = "the_text_for_cpus_that_load_in_any_order_has_barriers_and_is_accepted";
    if let Err(error) = crate::bpf::probe() {
        return netns::skip(test, &error.to_string());
    }
    for mode in [Mode::Native, Mode::Generic] {
        let maps = Maps::new(&Options::default()).expect("tables");
        let text = |loads| text::text(&maps, Some(50), mode, loads).expect("right");
        let [ordered, unordered] = [Loads::Ordered, Loads::Unordered].map(text);
        // Two barriers of three instructions in each of four shapes.
        assert_eq!(unordered.slots().len(), ordered.slots().len() + 24);
        let loaded = Program::load("unordered", ProgramKind::Xdp, &unordered);
        assert!(loaded.is_ok(), "{mode:?}: {:?}", loaded.err());
    }
}
