//! A made-up run, as text and as a page.

use rand::RngExt as _;

use super::*;
use crate::plan::{scenario, stream::Stream};

fn mark(at: u64, lane: usize, kind: Kind, text: &str) -> Mark {
    Mark {
        at: Moment::millis(at),
        lane: Some(LaneAt(lane)),
        kind,
        text: text.to_owned(),
    }
}

/// A minute with thousands of commits, some rare things, and a violation.
fn busy(scenario: &str) -> Timeline {
    let plan = (scenario::find(scenario).unwrap().build)(7);
    let mut timeline = Timeline::of_plan(&plan);
    let mut stream = Stream::of(7, "test");
    let lanes = timeline.lanes.len();
    for at in (100..60_000).step_by(20) {
        let lane = stream.rng().random_range(0..lanes);
        timeline
            .marks
            .push(mark(at, lane, Kind::Commit, "t1 committed {n1:17}, 3 changes"));
    }
    for at in (2_000..60_000).step_by(3_000) {
        timeline.links.push(Link {
            sent: Moment::millis(at),
            received: Moment::millis(at + 180),
            from: LaneAt(1),
            to: LaneAt(0),
            kind: Kind::CatchUp,
            text: "t1, 94 facts".to_owned(),
        });
    }
    timeline.marks.push(mark(9_000, 1, Kind::Role, "leads in term 4"));
    timeline.marks.push(mark(
        41_000,
        0,
        Kind::Violation,
        &format!("lost: {}", "an acknowledged change ".repeat(12)),
    ));
    timeline
        .head
        .push(("violation".to_owned(), "acknowledged is durable".to_owned()));
    timeline
}

#[test]
fn a_plan_gives_lanes_and_spans() {
    let plan = (scenario::find("node-replaced").unwrap().build)(1);
    let timeline = Timeline::of_plan(&plan);
    let names: Vec<&str> = timeline.lanes.iter().map(|lane| lane.name.as_str()).collect();
    assert_eq!(names, ["h1", "h2", "h3", "h4", "h5", "c1", "c2", "c3"]);
    assert_eq!(timeline.lanes[4].note, "eu-de", "it joins where the lost one was");
    assert_eq!(timeline.spans[0].lanes, [LaneAt(3), LaneAt(4)]);
    assert_eq!(timeline.spans[0].start, timeline.spans[0].end, "it happens at once");
    let cut = (scenario::find("partition-heals").unwrap().build)(1);
    let timeline = Timeline::of_plan(&cut);
    let named: Vec<&str> = timeline.spans[0]
        .lanes
        .iter()
        .map(|lane| timeline.lanes[lane.0].name.as_str())
        .collect();
    assert_eq!(named, ["h3", "c3"], "a region is cut off with its clients");
}

#[test]
fn a_line_fits_and_the_page_is_short_enough_to_read() {
    for scenario in scenario::all() {
        let text = text::render(&busy(scenario.name));
        for line in text.lines() {
            assert!(line.chars().count() <= text::COLUMNS_MAX, "{line}");
        }
        assert!(text.lines().count() <= text::LINES_MAX + 30, "{}", scenario.name);
    }
}

#[test]
fn faults_and_violations_are_always_shown_and_the_rest_is_counted() {
    let text = text::render(&busy("crash-in-commit"));
    for id in 0..9 {
        assert!(text.contains(&format!("#{id} h")), "fault {id} starts");
        assert!(text.contains(&format!("#{id} ends")), "fault {id} ends");
    }
    assert!(text.contains("VIOLATION h1: lost: an acknowledged change"));
    assert!(text.contains("leads in term 4"));
    let counted: usize = text
        .lines()
        .filter_map(|line| line.split_once("~ ")?.1.split_once(" commit"))
        .filter_map(|(before, _)| before.rsplit(' ').next()?.parse::<usize>().ok())
        .sum();
    let shown = text.lines().filter(|line| line.contains("t1 committed")).count();
    assert_eq!(counted + shown, (100..60_000).step_by(20).count());
    assert!(shown >= 20, "the neighbourhood of the violation is shown");
}

#[test]
fn a_message_is_an_arrow_between_lanes_and_a_lane_shows_what_is_wrong_with_it() {
    let mut timeline = Timeline {
        title: "seed 1".to_owned(),
        lanes: ["h1", "h2", "h3"]
            .map(|name| Lane {
                name: name.to_owned(),
                note: "eu-de".to_owned(),
            })
            .to_vec(),
        end: Moment::millis(9_000),
        ..Timeline::default()
    };
    let span = |(start, end), lane, effect, text: &str| Span {
        start: Moment::millis(start),
        end: Moment::millis(end),
        lanes: vec![LaneAt(lane)],
        effect,
        text: text.to_owned(),
    };
    timeline
        .spans
        .push(span((1_000, 4_000), 2, Effect::Cut, "#0 h3 | all others"));
    timeline
        .spans
        .push(span((2_000, 5_000), 1, Effect::Down, "#1 h2 loses power"));
    timeline.marks.push(mark(3_000, 0, Kind::Role, "leads in term 2"));
    timeline.links.push(Link {
        sent: Moment::millis(6_000),
        received: Moment::millis(6_200),
        from: LaneAt(2),
        to: LaneAt(0),
        kind: Kind::CatchUp,
        text: "t1, 94 facts".to_owned(),
    });
    let text = text::render(&timeline);
    let expected = "\
              h1      h2      h3
              eu-de   eu-de   eu-de
              ~ 1.000 s: nothing
       1.000  |       |       v        #0 h3 | all others
              ~ 1.000 s: nothing
       2.000  |       v       :        #1 h2 loses power
              ~ 1.000 s: nothing
       3.000  L       .       :        h1: leads in term 2
              ~ 1.000 s: nothing
       4.000  |       .       ^        #0 ends
              ~ 1.000 s: nothing
       5.000  |       ^       |        #1 ends
              ~ 1.200 s: nothing
       6.200  <---------------o        h3 -> h1 catch-up t1, 94 facts (200 ms)
              ~ 2.800 s: nothing
";
    assert!(text.ends_with(expected), "{text}");
}

#[test]
fn the_page_asks_for_nothing_and_no_text_of_a_run_ends_its_data() {
    let mut timeline = busy("partition-heals");
    timeline.title = "seed 7 <b>".to_owned();
    timeline
        .marks
        .push(mark(5, 0, Kind::Note, "</script><script>alert(1)</script>{{data}}"));
    let page = html::render(&timeline);
    for request in ["http:", "https:", "src=", "href=", "@import", "url("] {
        assert!(!page.contains(request), "{request}");
    }
    assert_eq!(page.matches("</script>").count(), 2);
    assert_eq!(page.matches("<title>seed 7 &lt;b></title>").count(), 1);
    let (_, data) = page.split_once(r#"type="application/json">"#).unwrap();
    let (data, _) = data.split_once("</script>").unwrap();
    let data: serde_json::Value = serde_json::from_str(data).unwrap();
    assert_eq!(data["marks"].as_array().unwrap().len(), timeline.marks.len());
    assert_eq!(data["kinds"][0], "violation");
    assert!(page.len() < 1 << 20);
}

#[test]
fn every_kind_has_a_letter_of_its_own_and_a_color() {
    let letters: std::collections::BTreeSet<char> = KINDS.iter().map(|kind| kind.letter()).collect();
    assert_eq!(letters.len(), KINDS.len());
    let page = html::render(&Timeline::default());
    let effects = [
        Effect::Down,
        Effect::Cut,
        Effect::Network,
        Effect::Disk,
        Effect::Clock,
        Effect::Operator,
    ];
    let effects = effects.map(|effect| serde_json::to_string(&effect).unwrap());
    let names = KINDS.iter().map(|kind| kind.name().to_owned());
    for name in names.chain(effects.iter().map(|name| name.trim_matches('"').to_owned())) {
        assert_eq!(
            page.matches(&format!("--{name}: #")).count(),
            2,
            "{name}, light and dark"
        );
    }
}
