"""From verdicts to pages: tables, figures and the style they share."""
