//! The few things of etcd that tests do by themselves, through its JSON gateway. `address` is `HOST:PORT`.

use crate::http;

/// Writes to a key that is nobody's, so often; the revision after it.
pub fn write(address: &str, times: u32) -> u64 {
    // `chaos`, in Base64 as the gateway wants it.
    let put = || revision(&post(address, "put", r#"{"key":"Y2hhb3M=","value":"Y2hhb3M="}"#));
    (0..times).fold(0, |_, _| put())
}

/// Forgets everything before a revision, on the disk as well.
pub fn compact(address: &str, revision: u64) {
    let answer = post(address, "compaction", &format!(r#"{{"revision":"{revision}","physical":true}}"#));
    assert!(answer.contains("200 OK"), "no compaction: {answer}");
}

/// Whether what was before that revision can still be asked for.
pub fn remembers(address: &str, revision: u64) -> bool {
    let answer = post(address, "range", &format!(r#"{{"key":"Y2hhb3M=","revision":"{revision}"}}"#));
    !answer.contains("has been compacted")
}

fn post(address: &str, call: &str, body: &str) -> String {
    http::post(address, &format!("/v3/kv/{call}"), "application/json", body)
}

fn revision(answer: &str) -> u64 {
    let rest = answer.split(r#""revision":""#).nth(1).and_then(|rest| rest.split('"').next());
    rest.and_then(|digits| digits.parse().ok()).expect("a revision")
}
