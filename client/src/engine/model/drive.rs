//! What passes between a client and the pretended node.

use super::*;

pub(super) fn connect(node: &mut Node, client: &mut Client, moment: Moment) {
    if client.session.is_some() {
        return;
    }
    let (session, events) = node.connect(&client.engine.connect_request());
    client.session = Some(session);
    client.engine.on_event(events[0].clone(), moment).unwrap();
}

pub(super) fn hear(node: &Node, client: &mut Client, count: usize, moment: Moment) {
    let Some(session) = client.session else { return };
    let after = client.engine.connect_request().after;
    for event in node.events(session, after).into_iter().take(count) {
        client.engine.on_event(event, moment).unwrap();
        client.check();
    }
}

pub(super) fn calls(node: &mut Node, client: &mut Client, count: usize, lost: bool) {
    for at in 0..count {
        match client.engine.next_call() {
            Some(Call::Subscribe { request, .. }) => {
                let number = request.subscription;
                let answer = node.subscribe(&request).map_err(CallFailure::Refused);
                let is_lost = lost && at + 1 == count;
                let answer = if is_lost { Err(CallFailure::Lost) } else { answer };
                client.engine.on_subscribed(number, answer);
            }
            Some(Call::Unsubscribe(request)) => node.unsubscribe(&request),
            None => return,
        }
    }
}

pub(super) fn push(node: &mut Node, client: &mut Client, lost: bool, moment: Moment) {
    let Some(push) = client.engine.next_push() else { return };
    let results = push.sets.iter().map(|bytes| Some(node.push(bytes))).collect();
    let answer = if lost { Answer::Lost } else { Answer::Results(results) };
    let outcome = client.engine.on_push_answer(answer, moment);
    assert!(outcome.rewritten.is_empty());
    for place in outcome.forgotten {
        client.sets.remove(&place);
    }
    client.floor = client.engine.session().floor();
}
