"""Bank transfers in ISO 20022: files for a bank, and the bank's own. docs/plugins-iso20022.md."""
