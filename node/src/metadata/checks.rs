//! What several commands check before they change anything.

use std::collections::{BTreeMap, BTreeSet};

use halcyon_core::id::RegionName;

use super::{
    command::Refusal,
    limits::SETTING_BYTES_MAX,
    settings::{self, Acknowledgement, TenantSettings},
};

pub(super) fn check_setting(specs: &[settings::Spec], name: &str, value: &str) -> Result<(), Refusal> {
    limit("bytes of a setting", value.len(), SETTING_BYTES_MAX)?;
    let known = specs.iter().any(|spec| spec.name == name);
    if known && value.is_empty() {
        return Ok(());
    }
    settings::check(specs, name, value).map_err(|reason| Refusal::Setting {
        name: name.to_owned(),
        reason,
    })
}

pub(super) fn put_setting(overrides: &mut BTreeMap<String, String>, name: String, value: String) {
    if value.is_empty() {
        overrides.remove(&name);
    } else {
        overrides.insert(name, value);
    }
}

pub(super) fn check_acknowledgement(settings: &TenantSettings, regions: &BTreeSet<RegionName>) -> Result<(), Refusal> {
    if settings.acknowledgement == Acknowledgement::Region && regions.len() < 2 {
        return Err(Refusal::Setting {
            name: "acknowledgement".to_owned(),
            reason: "`region` needs a tenant in at least two regions".to_owned(),
        });
    }
    Ok(())
}

pub(super) fn limit(what: &str, wanted: usize, max: usize) -> Result<(), Refusal> {
    if wanted <= max {
        return Ok(());
    }
    Err(Refusal::Limit {
        what: what.to_owned(),
        max: max as u64,
    })
}
