import createError from '@fastify/error'

export const CityNotFound = createError('EXAMPLE_CITY_NOT_FOUND', 'There is no city with the id %s', 404)
export const CountryNotFound = createError('EXAMPLE_COUNTRY_NOT_FOUND', 'There is no country with the code %s', 404)
export const InvalidPrefix = createError('EXAMPLE_INVALID_PREFIX', 'querystring/prefix must be more than spaces and accents', 400)
export const InvalidPopulation = createError('EXAMPLE_INVALID_POPULATION', 'body/population must be an integer, got %s', 400)
