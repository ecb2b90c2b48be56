import type { CityOfCountry, CityRow, CountryRow, CountryWithCapital } from './cached-objects.js'

// Fields one by one: reading `country` or `capital` is what loads them, so only what a response shows is asked for.

export function cityFields ({ id, name, countryCode, population, latitude, longitude }: CityRow) {
  return { id, name, countryCode, population, latitude, longitude }
}

export function countryFields ({ code, name, region, languages, area }: CountryRow) {
  return { code, name, region, languages, area }
}

export async function countryWithCapital (country: CountryWithCapital) {
  const capital = await country.capital
  return { ...countryFields(country), capital: capital && cityFields(capital) }
}

export async function cityWithCountry (city: CityOfCountry) {
  const country = await city.country
  return { ...cityFields(city), country: country && await countryWithCapital(country) }
}
