"""Pure numerics: scorers, training, scaling, bundles as bytes. No IO, clock, logging, config, global RNG."""
