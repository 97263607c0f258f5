"""The table of REST calls: rules, parameters, rows."""
