//! The table as TOML: `[[device]]`, `[[product]]` and `[[token]]`.

use std::ops::Range;

use toml::Spanned;
use toml::de::DeValue;

use super::{MAX_PROBLEMS, Reading, Wrong};
use crate::auth::devices::product::Product;
use crate::auth::devices::tokens::TokenRow;
use crate::config::toml_file::{Outside, TomlFile};
use crate::problem::Problem;

impl Reading<'_> {
    pub(super) fn toml(&mut self, outside: &dyn Outside) -> Result<(), Vec<Problem>> {
        let mut file = TomlFile::parse(self.source)?.hiding_values();
        file.fill_in(outside, &mut self.problems);
        let [products, tokens, devices] =
            ["product", "token", "device"].map(|name| (name, file.take(name)));
        for (key, span) in file.keys() {
            let problem = Problem::at(self.source, span, "E1002", format!("unknown key `{key}`"));
            self.problems.push(problem.help(
                "each device is a table [[device]], each product [[product]], each token [[token]]",
            ));
        }
        // Devices are looked at with the products that they belong to.
        for table in self.tables(products) {
            self.read(&file, table, |reading, product: Product| {
                reading.take_product(product)
            });
        }
        for table in self.tables(tokens) {
            self.read(&file, table, |reading, token: TokenRow| {
                reading.table.tokens.add(token)
            });
        }
        for table in self.tables(devices) {
            self.read(&file, table, Self::take);
        }
        Ok(())
    }

    /// The tables of that name.
    fn tables<'d>(
        &mut self,
        (name, value): (&str, Option<Spanned<DeValue<'d>>>),
    ) -> Vec<Spanned<DeValue<'d>>> {
        let Some(value) = value else {
            return Vec::new();
        };
        let span = value.span();
        if let DeValue::Array(tables) = value.into_inner() {
            return tables.into_iter().collect();
        }
        let problem = Problem::at(self.source, span, "E1017", format!("`{name}` is one table"));
        let help = format!("write [[{name}]], with two brackets, above each {name}");
        self.problems.push(problem.help(help));
        Vec::new()
    }

    /// Reads one table and takes it, or says what is wrong with it.
    fn read<'s, T: serde::de::DeserializeOwned>(
        &mut self,
        file: &TomlFile<'s>,
        table: Spanned<DeValue<'s>>,
        take: impl FnOnce(&mut Self, T) -> Result<(), Wrong>,
    ) {
        if self.problems.len() >= MAX_PROBLEMS {
            return;
        }
        let places = places(&table);
        match file.read_value::<T>(table) {
            Ok(read) => {
                if let Err(wrong) = take(self, read) {
                    self.tell(wrong, places);
                }
            }
            Err(problem) => self.problems.push(*problem),
        }
    }

    fn take_product(&mut self, product: Product) -> Result<(), Wrong> {
        let scheme = product.check()?;
        let key = (scheme, product.tenant_key.clone());
        if self.table.products.insert(key, product).is_some() {
            return Err(Wrong {
                key: "tenant_key",
                message: "the product stands twice in the table".to_owned(),
                help: "remove one of the two",
            });
        }
        Ok(())
    }
}

/// Where the keys of a table stand; the whole table where one is missing.
fn places(table: &Spanned<DeValue<'_>>) -> impl Fn(&str) -> Range<usize> + use<> {
    let whole = table.span();
    let keys: Vec<(String, Range<usize>)> = match table.get_ref() {
        DeValue::Table(table) => table
            .iter()
            .map(|(key, value)| (key.get_ref().to_string(), value.span()))
            .collect(),
        _ => Vec::new(),
    };
    move |key| {
        let found = keys.iter().find(|(known, _)| known == key);
        found.map_or_else(|| whole.clone(), |(_, span)| span.clone())
    }
}
