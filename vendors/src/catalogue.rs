//! Every vendor folder of a directory.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::error::LoadError;
use crate::folder;
use crate::vendor::Vendor;

/// Every vendor wanwright knows. Never changes after loading; a clone shares it.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    vendors: Arc<BTreeMap<String, Arc<Vendor>>>,
}

impl Catalogue {
    /// Reads every vendor folder in `dir`: each sub-folder that has a `vendor.toml`.
    ///
    /// # Errors
    /// [`LoadError`], naming file and field, if any folder is not valid as a whole, or if there is none.
    pub fn load(dir: impl AsRef<Path>) -> Result<Self, LoadError> {
        let dir = dir.as_ref();
        let mut vendors = BTreeMap::new();
        for (name, path) in folder::entries(dir)? {
            if path.join("vendor.toml").is_file() {
                vendors.insert(name, Arc::new(Vendor::load(&path)?));
            }
        }
        if vendors.is_empty() {
            return Err(LoadError::Layout {
                path: dir.to_owned(),
                message: "holds no vendor folder: expected at least one <name>/vendor.toml".to_owned(),
            });
        }
        Ok(Self { vendors: Arc::new(vendors) })
    }

    /// The vendor of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Vendor> {
        self.vendors.get(name).map(Arc::as_ref)
    }

    /// The same with one vendor and no other.
    #[must_use]
    pub fn only(&self, name: &str) -> Self {
        let one = self.vendors.get_key_value(name).map(|(name, vendor)| (name.clone(), Arc::clone(vendor)));
        Self { vendors: Arc::new(one.into_iter().collect()) }
    }

    /// Every vendor, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Vendor> {
        self.vendors.values().map(Arc::as_ref)
    }

    /// The vendors' names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.vendors.keys().map(String::as_str)
    }
}
