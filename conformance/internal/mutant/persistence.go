package mutant

func persistenceMutants() []Mutant { return nil }
