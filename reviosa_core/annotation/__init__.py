"""Videos and a language model's endpoint in, expressions with two roles, verified, out; each stage a file to read."""
