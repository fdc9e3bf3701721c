//! The data set of an issue tracker as CSV files: a real one where there is one, else one that is made here.
//!
//! `HALCYON_DATA` names a folder that has `zbugs/issue.csv` and its siblings; `shared/data` beside the checkout is
//! looked at too. What is made has the same shape: Markdown over several lines, quotes, emoji, empty fields, references
//! and a table of pairs.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use crate::tidy;

/// A file, the type of its entities, and what `import` must know of its columns.
#[derive(Debug, Clone, Copy)]
pub struct Sheet {
    /// The file's name.
    pub file: &'static str,
    /// The type.
    pub entity_type: &'static str,
    /// Columns that are references, as `column=type`.
    pub refs: &'static [&'static str],
}

/// The sheets in an order in which no reference points ahead.
pub const SHEETS: [Sheet; 5] = [
    Sheet {
        file: "user.csv",
        entity_type: "user",
        refs: &[],
    },
    Sheet {
        file: "label.csv",
        entity_type: "label",
        refs: &[],
    },
    Sheet {
        file: "issue.csv",
        entity_type: "issue",
        refs: &["creatorID=user", "assigneeID=user"],
    },
    Sheet {
        file: "comment.csv",
        entity_type: "comment",
        refs: &["issueID=issue", "creatorID=user"],
    },
    Sheet {
        file: "issueLabel.csv",
        entity_type: "issueLabel",
        refs: &["issueID=issue", "labelID=label"],
    },
];

/// Issues that are made where there is no real data.
const ISSUES: usize = 600;

/// The folder of the sheets; what has to be made goes into `scratch`.
pub fn folder(scratch: &Path) -> PathBuf {
    let beside = tidy::repository().join("../shared/data");
    let named = env::var_os("HALCYON_DATA").map(PathBuf::from);
    let mut real = named.into_iter().chain([beside]).map(|folder| folder.join("zbugs"));
    real.find(|folder| folder.join("issue.csv").is_file())
        .unwrap_or_else(|| made(scratch))
}

fn made(scratch: &Path) -> PathBuf {
    let folder = scratch.join("made");
    fs::create_dir_all(&folder).expect("a temporary directory can be written to");
    for sheet in SHEETS {
        fs::write(folder.join(sheet.file), sheet_text(sheet.file)).expect("a temporary directory can be written to");
    }
    folder
}

fn sheet_text(file: &str) -> String {
    let (header, rows, of): (&str, usize, fn(usize) -> String) = match file {
        "user.csv" => ("id,login,role", 20, user),
        "label.csv" => ("id,name,projectID", 12, label),
        "issue.csv" => (
            "id,title,open,modified,created,creatorID,assigneeID,description,visibility,projectID",
            ISSUES,
            issue,
        ),
        "comment.csv" => ("id,issueID,created,body,creatorID", 2 * ISSUES, comment),
        _ => ("labelID,issueID,projectID", ISSUES, issue_label),
    };
    (0..rows).fold(format!("{header}\n"), |text, at| text + &of(at) + "\n")
}

fn user(at: usize) -> String {
    let role = if at < 8 { "crew" } else { "user" };
    format!("user-{at:017},person-{at},{role}")
}

fn label(at: usize) -> String {
    format!("labl-{at:017},label {at},proj-{:017}", 0)
}

fn issue(at: usize) -> String {
    let text = format!("\"Steps:\n\n1. open \"\"page {at}\"\"\n2. wait, then look ✨\n\n```\nerror {at}\n```\n\"");
    let assignee = if at.is_multiple_of(3) {
        String::new()
    } else {
        format!("user-{:017}", at % 20)
    };
    let (open, created) = (at.is_multiple_of(2), 1_726_000_000_000_usize + at * 1_000);
    format!(
        "issu-{at:017},\"Issue {at}, the title\",{open},{created}.0,{created}.0,user-{:017},{assignee},{text},internal,proj-{:017}",
        at % 8,
        0,
    )
}

fn comment(at: usize) -> String {
    let body = format!("\"Seen again at {at} 👀\nsee #{}\"", at / 2);
    format!(
        "comm-{at:017},issu-{:017},{}.0,{body},user-{:017}",
        at / 2,
        1_726_100_000_000_usize + at,
        at % 20
    )
}

fn issue_label(at: usize) -> String {
    format!("labl-{:017},issu-{at:017},proj-{:017}", at % 12, 0)
}
