//! Pages of Postgres: every one has a checksum, which is compared whenever it is read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sqlx::PgPool;

use super::harm::{self, Harm, Heads};

/// What every table has, and in which file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tables {
    hashes: BTreeMap<String, String>,
    files: Vec<(String, PathBuf)>,
}

/// Every table of the read models, those included that tell how far the others are.
const TABLES: &str = "SELECT c.oid::regclass::text, pg_relation_filepath(c.oid) FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1";

/// Reads every row of every table.
pub async fn tables(pool: &PgPool) -> Result<Tables> {
    let found: Vec<(String, String)> = sqlx::query_as(TABLES).fetch_all(pool).await?;
    let mut tables = Tables { hashes: BTreeMap::new(), files: Vec::new() };
    for (table, file) in found {
        let sql =
            format!("SELECT coalesce(md5(string_agg(t::text, '' ORDER BY t::text)), '') FROM {table} t");
        let hash: String =
            sqlx::query_scalar(&sql).fetch_one(pool).await.with_context(|| format!("reading {table}"))?;
        if !hash.is_empty() {
            tables.files.push((table.clone(), file.into()));
        }
        tables.hashes.insert(table, hash);
    }
    Ok(tables)
}

impl Tables {
    /// Flips a bit in a page of a table below this folder.
    pub fn damage(&self, data: &Path, random: &mut fastrand::Rng) -> Result<Harm> {
        let (table, file) = random.choice(&self.files).context("every table is empty")?;
        let path = data.join(file);
        let at = harm::flip(&path, std::fs::metadata(&path)?.len(), random)?;
        let (kind, what) = (harm::PAGE.to_owned(), format!("{table} ({}) at {at}", file.display()));
        Ok(Harm { kind, what, heads: Heads::All })
    }

    /// The tables whose rows are not what they are in another one.
    pub fn differing(&self, other: &Self) -> Vec<String> {
        let differs = |(table, hash): &(&String, &String)| other.hashes.get(*table) != Some(*hash);
        self.hashes.iter().filter(differs).map(|(table, _)| table.clone()).collect()
    }
}
