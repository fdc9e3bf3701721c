//! Reads of the control plane: from what the asked node knows, or linearizable.

use halcyon_proto::header::{CONSISTENCY_HEADER, LINEARIZABLE};

use super::*;

const SETTING: &str = "tombstone_retention";

/// The setting as `place` shows it at that level.
async fn read(cluster: &Cluster, place: &Place, level: Option<&'static str>) -> Result<String, Status> {
    let mut request = with_key(&cluster.admin, v1::ListSettingsRequest {});
    if let Some(level) = level {
        request
            .metadata_mut()
            .insert(CONSISTENCY_HEADER, level.parse().unwrap());
    }
    let settings = place.admin().list_settings(request).await?.into_inner().settings;
    Ok(settings
        .into_iter()
        .find(|setting| setting.name == SETTING)
        .unwrap()
        .value)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_linearizable_read_shows_every_write_before_it_on_every_node_or_is_refused() {
    let mut cluster = Cluster::start(&["eu-west", "us-east", "ap-south"]).await;
    for round in 1..=20 {
        let value = format!("{round}h");
        let request = v1::SetSettingRequest {
            name: SETTING.to_owned(),
            value: value.clone(),
        };
        let writer = &cluster.places[round % 3];
        let answer = writer.admin().set_setting(with_key(&cluster.admin, request)).await;
        answer.unwrap();
        for place in &cluster.places {
            assert_eq!(read(&cluster, place, Some(LINEARIZABLE)).await.unwrap(), value);
        }
    }
    let status = read(&cluster, cluster.first(), Some("strong")).await.unwrap_err();
    assert_eq!(code(&status), ErrorCode::Malformed);
    let others = cluster.places.split_off(1);
    futures::future::join_all(others.into_iter().map(|place| place.node.unwrap().stop())).await;
    assert_eq!(read(&cluster, cluster.first(), None).await.unwrap(), "20h");
    let status = read(&cluster, cluster.first(), Some(LINEARIZABLE)).await.unwrap_err();
    assert_eq!(code(&status), ErrorCode::NoQuorum);
    cluster.stop().await;
}
