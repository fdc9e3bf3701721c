//! The timeline as one page: no requests, no libraries; zoom, pan, hover, filters, a jump to the violation.
//!
//! The page is `page.html` with the style, the script and the run's data filled in. The data is JSON in a script
//! element that does not run; `<` is written as an escape there, so that no text of a run can end the element.

use serde::Serialize;

use super::{KINDS, Kind, Timeline};

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// What the script reads.
#[derive(Serialize)]
struct Data<'a> {
    kinds: [Kind; KINDS.len()],
    #[serde(flatten)]
    timeline: &'a Timeline,
}

/// The page.
pub fn render(timeline: &Timeline) -> String {
    let data = Data { kinds: KINDS, timeline };
    let data = serde_json::to_string(&data).expect("keys are text and numbers are whole");
    let title = timeline.title.replace('&', "&amp;").replace('<', "&lt;");
    let mut page = String::new();
    for (at, piece) in PAGE.split("{{").enumerate() {
        let Some((name, rest)) = piece.split_once("}}").filter(|_| at > 0) else {
            page.push_str(piece);
            continue;
        };
        match name {
            "title" => page.push_str(&title),
            "style" => page.push_str(STYLE),
            "script" => page.push_str(SCRIPT),
            _ => page.push_str(&data.replace('<', "\\u003c")),
        }
        page.push_str(rest);
    }
    page
}
