//! Every way for a certificate to be wrong, though the cluster's own CA signed it.

use std::time::{Duration, Instant};

use hither_faults::machine::usage;
use hither_faults::stranger::{Authority, Met, uri};
use hither_protocol::error::CloseCode;
use hither_tests::node::Node;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, date_time_ymd};

/// Alerts of TLS, as QUIC carries them.
const BAD_CERTIFICATE: u64 = 0x12a;
const UNSUPPORTED_CERTIFICATE: u64 = 0x12b;
const CERTIFICATE_EXPIRED: u64 = 0x12d;
const CERTIFICATE_UNKNOWN: u64 = 0x12e;

type Change = fn(&mut CertificateParams, &str);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_is_wrong_in_any_way_lets_nobody_in() -> anyhow::Result<()> {
    let node = Node::start().await;
    let friend = node.client().connect().await?;
    let authority = Authority::of(&node)?;
    let tls = |alerts: &[u64]| alerts.iter().map(|&alert| Met::Alert(alert)).collect::<Vec<_>>();
    let invalid = || vec![Met::Closed(CloseCode::IdentityInvalid)];
    let cases: [(&str, Change, Vec<Met>); 11] = [
        ("nothing is wrong", |_, _| {}, vec![Met::Welcomed]),
        ("expired", |params, _| params.not_after = date_time_ymd(2021, 1, 1), tls(&[CERTIFICATE_EXPIRED])),
        (
            "not yet valid",
            |params, _| params.not_before = date_time_ymd(2098, 1, 1),
            tls(&[CERTIFICATE_EXPIRED, BAD_CERTIFICATE, CERTIFICATE_UNKNOWN]),
        ),
        (
            "a server's",
            |params, _| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth],
            tls(&[UNSUPPORTED_CERTIFICATE, BAD_CERTIFICATE]),
        ),
        ("no name", |params, _| params.subject_alt_names.clear(), invalid()),
        (
            "two names",
            |params, cluster| {
                params.subject_alt_names.push(uri(&format!("hither://{cluster}/admin/other")).expect("a name"));
            },
            invalid(),
        ),
        (
            "of another cluster",
            |params, _| {
                params.subject_alt_names =
                    vec![uri(&format!("hither://{}/admin/admin", "7".repeat(32))).expect("a name")];
            },
            invalid(),
        ),
        (
            "a node's",
            |params, cluster| {
                params.subject_alt_names = vec![uri(&format!("hither://{cluster}/node/1")).expect("a name")];
            },
            invalid(),
        ),
        (
            "of an unknown kind",
            |params, cluster| {
                params.subject_alt_names = vec![uri(&format!("hither://{cluster}/king/admin")).expect("a name")];
            },
            invalid(),
        ),
        (
            "of another scheme, with a path that climbs",
            |params, cluster| {
                params.subject_alt_names = vec![uri(&format!("https://{cluster}/admin/../admin")).expect("a name")];
            },
            invalid(),
        ),
        (
            "of an identity that was never added",
            |params, cluster| {
                params.subject_alt_names = vec![uri(&format!("hither://{cluster}/client/nobody")).expect("a name")];
            },
            vec![Met::Closed(CloseCode::IdentityInvalid), Met::Closed(CloseCode::IdentityRevoked)],
        ),
    ];
    for (what, change, expected) in cases {
        let met = authority.sign(|params| change(params, &authority.cluster))?.knock(&node).await?;
        assert!(expected.contains(&met), "{what}: {met:x?}, expected {expected:x?}");
    }
    friend.put("c/friend", "").await?;
    assert_eq!(friend.metrics().reconnects, 0, "a stranger disturbed a friend");
    assert!(!node.log().contains("panicked"), "{}", node.log());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_of_a_hundred_certificates_costs_the_server_nothing_worth_mentioning() -> anyhow::Result<()> {
    let node = Node::start().await;
    let authority = Authority::of(&node)?;
    let mut shown = authority.sign(|params| params.subject_alt_names.clear())?;
    for _ in 0..99 {
        let more = authority.sign(|params| params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained))?;
        shown.chain.extend(more.chain);
    }
    let (before, start) = (usage(node.id())?.processor, Instant::now());
    let met = shown.knock(&node).await?;
    assert!(!matches!(met, Met::Welcomed), "{met:?}");
    let spent = usage(node.id())?.processor - before;
    // The kernel counts in hundredths of a second, and the node has beats and looks of its own.
    assert!(spent < Duration::from_millis(150), "{spent:?} of processor");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    node.client().connect().await?.put("c/after", "").await?;
    Ok(())
}
