# Documentation and translations are left out of every guest of the offline base, so there is nothing to do.
{ }
