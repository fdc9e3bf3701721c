//! Programs at the clients' port: the Rust client over TLS, a browser's framing, whole tenants out and in.

use futures::StreamExt;
use halcyon_client::{AdminClient as Operator, Client, ClientOptions};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use super::*;
use crate::config::TlsFiles;

/// A certificate for this machine that a CA of the operator's signed: its files, and the CA's certificate.
fn operators_certificate(directory: &std::path::Path) -> (TlsFiles, Vec<u8>) {
    let ca_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = params.self_signed(&ca_key).unwrap();
    let issuer = Issuer::new(params, ca_key);
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let files = TlsFiles {
        certificate: directory.join("tls.pem"),
        key: directory.join("tls.key"),
    };
    std::fs::write(&files.certificate, certificate.pem()).unwrap();
    std::fs::write(&files.key, key.serialize_pem()).unwrap();
    (files, ca.pem().into_bytes())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_writes_and_reads_over_tls_that_the_operators_ca_vouches_for() {
    let files = tempfile::tempdir().unwrap();
    let (tls, ca) = operators_certificate(files.path());
    let data = tempfile::tempdir().unwrap();
    let mut config = Config::local(&"eu-west".parse().unwrap(), data.path().into(), Start::Bootstrap);
    config.tls = Some(tls);
    let node = Node::start(crate::env::system(data.path()).unwrap(), config)
        .await
        .unwrap();
    let addresses = vec![node.client_address().to_owned()];
    eventually("the node is ready", async || node.reasons().is_empty()).await;
    let admin = std::fs::read_to_string(data.path().join(ADMIN_FILE))
        .unwrap()
        .trim()
        .to_owned();
    let env = halcyon_client::env::system(None).unwrap();
    let connect =
        async |ca: Option<Vec<u8>>| Operator::connect(env.clone(), addresses.clone(), admin.clone(), ca).await;
    assert!(connect(None).await.is_err(), "without TLS nobody is answered");
    let (_, stranger) = operators_certificate(files.path());
    assert!(connect(Some(stranger)).await.is_err(), "another CA vouches for nothing");
    let request = v1::CreateTenantRequest {
        name: "app".to_owned(),
        regions: vec!["eu-west".to_owned()],
        ..v1::CreateTenantRequest::default()
    };
    let key = connect(Some(ca.clone()))
        .await
        .unwrap()
        .create_tenant(request)
        .await
        .unwrap()
        .key;
    let options = ClientOptions {
        addresses,
        tenant: "app".to_owned(),
        key,
        ca_certificate: Some(ca),
        ..ClientOptions::default()
    };
    let client = Client::connect(env.clone(), options).await.unwrap();
    let subject = EntityId::new("one").unwrap();
    let title = Change::Set {
        subject: subject.clone(),
        predicate: Predicate::new("issue/title").unwrap(),
        value: Value::String("over TLS".into()),
    };
    let create = Change::Create {
        subject: subject.clone(),
    };
    client
        .write(vec![create, title])
        .await
        .unwrap()
        .acknowledged()
        .await
        .unwrap();
    assert_eq!(client.get(&subject).await.unwrap().len(), 1);
    client.close().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_goes_out_by_export_and_comes_in_by_import_unchanged() {
    let cluster = Cluster::start(&["eu-west"]).await;
    let key = cluster.create_tenant("app", &["eu-west"]).await;
    let copy_key = cluster.create_tenant("copy", &["eu-west"]).await;
    let place = cluster.first();
    let sets = (1..=50).map(|number| change_set(place.env(), number, &format!("e{number}"), "exported"));
    let answer = place.sync().push(with_key(&key, push("app", sets.collect()))).await;
    assert!(all_taken(answer.unwrap().get_ref()));
    let tenant = "app".to_owned();
    let export = place
        .admin()
        .export(with_key(
            &cluster.admin,
            v1::ExportRequest {
                tenant,
                ..v1::ExportRequest::default()
            },
        ))
        .await;
    let parts: Vec<_> = export.unwrap().into_inner().map(Result::unwrap).collect().await;
    let fingerprint = parts.last().unwrap().fingerprint.clone();
    assert!(!fingerprint.is_empty());
    let messages: Vec<_> = parts
        .into_iter()
        .map(|part| v1::ImportRequest {
            tenant: "copy".to_owned(),
            facts: part.facts,
            vector: part.vector,
        })
        .collect();
    let imported = place
        .admin()
        .import(with_key(&cluster.admin, futures::stream::iter(messages)))
        .await;
    assert_eq!(imported.unwrap().into_inner().fingerprint, fingerprint);
    let (ours, theirs) = (
        titles(place, &key, "app").await.unwrap(),
        titles(place, &copy_key, "copy").await.unwrap(),
    );
    assert_eq!((ours.len(), ours), (50, theirs));
    cluster.stop().await;
}

/// A message as gRPC frames it.
fn framed(message: &impl prost::Message) -> Vec<u8> {
    let body = message.encode_to_vec();
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[0], &length[..], &body].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_tells_of_what_was_and_what_comes_in_both_framings() {
    use v1::watch_response::Event;
    let cluster = Cluster::start(&["eu-west"]).await;
    let key = cluster.create_tenant("app", &["eu-west"]).await;
    let place = cluster.first();
    let write = async |number: u64| {
        let set = change_set(place.env(), number, &format!("e{number}"), "watched");
        let answer = place.sync().push(with_key(&key, push("app", vec![set]))).await;
        assert!(all_taken(answer.unwrap().get_ref()));
    };
    write(1).await;
    let request = v1::WatchRequest {
        tenant: "app".to_owned(),
        ..v1::WatchRequest::default()
    };
    let mut events = place
        .sync()
        .watch(with_key(&key, request.clone()))
        .await
        .unwrap()
        .into_inner();
    let mut missed = 0;
    loop {
        match events.message().await.unwrap().unwrap().event.unwrap() {
            Event::Missed(sets) => missed += sets.change_sets.len(),
            Event::CaughtUp(_) => break,
            _ => {}
        }
    }
    assert_eq!(missed, 1);
    write(2).await;
    loop {
        if let Event::Live(_) = events.message().await.unwrap().unwrap().event.unwrap() {
            break;
        }
    }
    // The same as a browser asks for it, with the header that only browsers send.
    let body = framed(&request);
    let head = format!(
        "POST /halcyon.v1.Sync/Watch HTTP/1.1\r\nhost: x\r\norigin: http://localhost:5173\r\nauthorization: Bearer {key}\r\n\
         content-type: application/grpc-web+proto\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = place
        .env()
        .network
        .connect(place.node().client_address().to_owned())
        .await
        .unwrap();
    stream.write_all(&[head.as_bytes(), &body].concat()).await.unwrap();
    let mut read = Vec::new();
    eventually("the browser is told of both", async || {
        let mut part = vec![0; 4096];
        let count = stream.read(&mut part).await.unwrap();
        read.extend_from_slice(&part[..count]);
        read.windows(2).filter(|pair| pair == b"e1" || pair == b"e2").count() >= 2
    })
    .await;
    assert!(String::from_utf8_lossy(&read).contains("application/grpc-web+proto"));
    drop(events);
    cluster.stop().await;
}
