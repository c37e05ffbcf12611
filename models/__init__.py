"""Pure numerics: scorers, training, scaling, bundles as bytes. No IO, clock, logging, config or global RNG."""
