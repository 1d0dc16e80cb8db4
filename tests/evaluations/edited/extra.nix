# Changes nothing.
{ }
