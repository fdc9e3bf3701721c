//! See `server/tests/live.rs` for the whole way over the wire.

use super::*;

#[test]
fn queries_are_equal_whatever_their_variables_are_called() {
    let key = |text: &str| query::key_of(&read(text).unwrap());
    assert_eq!(
        key("find ?a where ?a post/rank 1"),
        key("find ?a where ?a post/rank 1 # the same")
    );
    assert_ne!(key("post where rank = 1"), key("post where rank = 2"));
    assert_eq!(
        key(r#"{"from": "post", "where": ["rank", "=", 1]}"#),
        key("post where rank = 1")
    );
}

#[test]
fn a_query_that_cannot_be_read_is_shown_with_the_place() {
    let shown = read("post where rank ~ 1").unwrap_err();
    assert!(shown.contains('^'), "{shown}");
    assert!(read("{").unwrap_err().contains("JSON"));
}
