"""`labeldep reproduce`: rows, cost, training, tables, gallery."""
